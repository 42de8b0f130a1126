"""A container's only way out: what may leave, with which secrets, and the record of every attempt."""
