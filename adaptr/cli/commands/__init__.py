"""One command a file; each has `command`. What a command does is in `adaptr.ops` and `adaptr.api`, what it says is here."""
