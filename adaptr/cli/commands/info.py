"""`adaptr info REF`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.reports import Known

SUMMARY = "Say what an artifact is, without pulling it."
SECTION = "Share"

#: How many files are listed.
SHOWN = 12


@options.command(
    "info",
    "adaptr info oci://ghcr.io/acme/style:1.2",
    "adaptr info hf://org/name --json | jq .method",
    summary=SUMMARY,
    notes=options.schemes(),
)
@click.argument("reference", shell_complete=completing.artifacts)
def command(output: Output, reference: str) -> None:
    """Its manifest and the header of its adapter file are read, a few kilobytes, and nothing is kept."""
    from adaptr.artifacts import handling

    found = handling.info(reference)
    output.tell(found.as_dict(), _blocks(found))


def _blocks(found: Known) -> Iterator[show.Block]:
    files = [f"{name} ({show.size(size)})" for name, size in found.files.items()]
    more = f"and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    yield show.Facts(
        {
            "artifact": found.reference,
            "digest": found.digest,
            "revision": found.revision,
            "kind": found.kind,
            "method": found.method,
            "rank": found.rank,
            "base": found.base,
            "targets": found.targets or None,
            "tensors": f"{found.tensors}, {show.number(found.numbers)} numbers" if found.tensors else "",
            "license": found.license,
            "files": [*files[:SHOWN], *([more] if more else [])],
        }
    )
    yield show.Facts(found.lineage, "lineage")
