"""The parts of `compose`, which chooses concrete classes and puts them together."""
