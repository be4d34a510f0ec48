"""The command line: one grammar, one command a file, one place that turns errors into text and exit codes.

`group` lists the commands and imports the one that is called; `failure` is that one place; `output` says what was done,
as text or as JSON; `show` lays text out; `options` and `progress` are what commands share. Nothing here is imported by
the library.
"""

from adaptr.cli.failure import run

__all__ = ["run"]
