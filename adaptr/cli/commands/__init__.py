"""One command a file; each has `command`. What it does is in `adaptr.api` and the rooms, what it says is here."""
