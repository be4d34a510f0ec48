"""One command a file; each has `command`. What it does is in `adaptr.api` and `adaptr.ops`, what it says is here."""
