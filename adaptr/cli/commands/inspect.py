"""`adaptr inspect A`"""

from __future__ import annotations

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output


@options.command(
    "inspect",
    "adaptr inspect style.safetensors",
    "adaptr inspect ./peft-folder",
    "adaptr inspect style.safetensors --json | jq .method",
)
@click.argument("source", metavar="ADAPTER", type=click.Path())
def command(out: Output, source: str) -> None:
    """Say what an adapter is, from its header alone.

    ADAPTER is a file or folder in any known format. Neither the weights are loaded nor the base is needed.
    """
    from adaptr import api

    report = api.inspect(source)
    out.tell(report.as_dict(), [show.Facts(report.as_dict())])
