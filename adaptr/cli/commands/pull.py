"""`adaptr pull REF`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.foreign.formats import packable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.reports import Artifact

SUMMARY = "Bring an artifact from a registry, the Hub or a server into the store."
SECTION = "Share"


@options.command(
    "pull",
    "adaptr pull oci://ghcr.io/acme/style:1.2",
    "adaptr pull hf://org/name@main -o ./style --as peft",
    "adaptr pull oci://ghcr.io/acme/style:1.2 -o style.safetensors",
    "adaptr pull oci://ghcr.io/acme/style:1.2 --lock",
    summary=SUMMARY,
    notes=options.schemes(),
)
@click.argument("reference", shell_complete=completing.artifacts)
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    metavar="OUT",
    help="To this new folder too; the one file of an adapter to a `*.safetensors`.",
)
@click.option("--as", "to", type=click.Choice(("as-is", *packable())), default="as-is", show_default=True)
@click.option("--lock", is_flag=True, help="Pin it in adaptr.lock.")
@click.option("--frozen", is_flag=True, help="Refuse what adaptr.lock does not pin.")
@click.option("--accept-change", is_flag=True, help="Take what the reference names now, whatever was pinned.")
@click.option("--force", is_flag=True, help="Replace what is at OUT: a file, or a folder that adaptr wrote.")
def command(output: Output, reference: str, **given: Any) -> None:
    """Every byte is checked against its digest; what was cut off goes on where it stopped. What is there already and
    named by digest, commit or adaptr.lock asks no network. Then the other commands take the reference where they take a
    path.
    """
    import adaptr

    with bar(output, "pulling") as progress:
        found = adaptr.pull(reference, progress=progress, **given)
    output.tell(found.as_dict(), _blocks(found))


def _blocks(found: Artifact) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "pulled": f"{found.reference}{' (was here already)' if found.cached else ''}",
            "name": found.name,
            "digest": found.digest,
            "moved": f"it was {found.moved_from} before" if found.moved_from else "",
            "files": [f"{name} ({show.size(size)})" for name, size in found.files.items()],
            "written": found.out,
        }
    )
