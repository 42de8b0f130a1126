"""`python -m deskhand`."""

from .cli import app

app()
