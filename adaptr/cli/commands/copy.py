"""`adaptr copy REF REF`"""

from __future__ import annotations

import click

from adaptr.cli import completing, options
from adaptr.cli.commands.push import blocks
from adaptr.cli.output import Output
from adaptr.cli.progress import bar

SUMMARY = "Bring an artifact from one reference to another; its digest stays."
SECTION = "Share"


@options.command(
    "copy",
    "adaptr copy oci://ghcr.io/acme/style:1.2 oci://registry.example.com/acme/style:1.2",
    "adaptr copy hf://acme/style oci://ghcr.io/acme/style:main",
    summary=SUMMARY,
    notes=options.schemes(),
)
@click.argument("source", metavar="FROM", shell_complete=completing.artifacts)
@click.argument("reference", metavar="TO", shell_complete=completing.artifacts)
@click.option("--force", is_flag=True, help="Move a tag that names another artifact.")
def command(output: Output, source: str, reference: str, force: bool) -> None:
    """It goes through the store, so what is there is not fetched, and what TO has is not sent."""
    from adaptr.artifacts import handling

    with bar(output, "copying") as progress:
        sent = handling.copy(source, reference, force=force, progress=progress)
    output.tell(sent.as_dict(), blocks(sent, "copied to"))
