"""`adaptr push A REF`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.foreign.formats import packable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.reports import Sent

SUMMARY = "Publish an adapter at a reference."
SECTION = "Share"


@options.command(
    "push",
    "adaptr push style.safetensors oci://ghcr.io/acme/style:1.2",
    "adaptr push ./peft-folder hf://acme/style",
    "adaptr push style.safetensors oci://ghcr.io/acme/style:1.2-peft --as peft",
    summary=SUMMARY,
    notes=options.schemes(),
)
@click.argument("source", metavar="ADAPTER", shell_complete=completing.artifacts)
@click.argument("reference", shell_complete=completing.artifacts)
@click.option("--as", "to", type=click.Choice(("as-is", *packable())), default="as-is", show_default=True)
@click.option("--force", is_flag=True, help="Move a tag that names another artifact.")
def command(output: Output, source: str, reference: str, **given: Any) -> None:
    """ADAPTER is a file, a folder or a name in the store. Pickles are never published. The same adapter has the same
    digest wherever it is pushed, and what is there already is not sent again.
    """
    import adaptr

    with bar(output, "pushing") as progress:
        sent = adaptr.push(source, reference, progress=progress, **given)
    output.tell(sent.as_dict(), blocks(sent, "pushed"))


def blocks(sent: Sent, what: str) -> Iterator[show.Block]:
    """What was sent and where it is now."""
    yield show.Facts(
        {
            what: sent.reference,
            "digest": sent.digest,
            "size": show.size(sent.size),
            "sent": f"{show.size(sent.uploaded)}, {show.size(sent.skipped)} were there already",
            "left out": [f"{name} ({why})" for name, why in sent.left.items()],
            "attached": f"{sent.attachments} signatures or other attachments" if sent.attachments else "",
        }
    )
