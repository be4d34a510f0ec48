"""`adaptr tag A NAME`"""

from __future__ import annotations

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

SUMMARY = "Give an adapter a name in the store."
SECTION = "Store"


@options.command(
    "tag", "adaptr tag style.safetensors style:1.2", "adaptr tag oci://ghcr.io/acme/style:1.2 style", summary=SUMMARY
)
@click.argument("source", metavar="ADAPTER", shell_complete=completing.artifacts)
@click.argument("name", shell_complete=completing.names)
def command(output: Output, source: str, name: str) -> None:
    """ADAPTER is a name in the store, a reference, or a file or folder, which is copied in. A name of another adapter
    moves to this one.
    """
    from adaptr.artifacts import handling

    found = handling.tag(source, name)
    output.tell(found.as_dict(), [show.Facts({"named": found.name, "digest": found.digest})])
