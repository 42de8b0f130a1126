"""Deskhand: a self-hosted server for OpenAI's Responses API in which the model has a computer."""

__version__ = "0.1.0"
