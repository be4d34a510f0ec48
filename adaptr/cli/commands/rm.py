"""`adaptr rm NAME...`"""

from __future__ import annotations

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

SUMMARY = "Take names out of the store."
SECTION = "Store"


@options.command("rm", "adaptr rm style:1.2", "adaptr rm ghcr.io/acme/style:1.2 && adaptr gc", summary=SUMMARY)
@click.argument("names", nargs=-1, required=True, shell_complete=completing.names)
def command(output: Output, names: tuple[str, ...]) -> None:
    """What no name leads to any more goes with the next `adaptr gc`."""
    from adaptr.artifacts import handling

    for name in names:
        handling.remove(name)
    output.tell({"removed": list(names)}, [show.Facts({"removed": list(names)})])
