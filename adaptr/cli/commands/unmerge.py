"""`adaptr unmerge MERGED -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output
from adaptr.cli.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.merging.unmerge import UnmergeReport

SUMMARY = "Take the adapters out of a merged checkpoint, bit for bit."
SECTION = "Merge"


@options.command(
    "unmerge",
    "adaptr unmerge ./llama-style -o ./llama",
    "adaptr unmerge ./llama-style -o ./llama --json",
    summary=SUMMARY,
    doing="unmerging",
)
@click.argument("merged", type=click.Path())
@options.output_option("The restored base: a folder, or a file of a checkpoint that is one.")
def command(output: Output, merged: str, **place: Any) -> None:
    """MERGED is what `adaptr merge` wrote. The receipt in it is enough: neither the base nor the adapters are needed.
    Every tensor is checked against the base's digest.
    """
    import adaptr

    with bar(output, "unmerging") as progress:
        report = adaptr.unmerge(merged, progress=progress, **place)
    output.tell(report.as_dict(), _blocks(report))


def _blocks(report: UnmergeReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "restored": report.out,
            "taken out": [show.adapter(a) for a in report.adapters],
            "tensors": _tensors(report),
            "written": show.size(report.bytes),
            "time": f"{report.seconds:.2f} s",
            "note": report.notes,
        }
    )


def _tensors(report: UnmergeReport) -> str:
    left = report.compared - report.tensors
    if report.taken:
        return f"{report.tensors} recomputed and equal to the base's sha256; {report.taken} taken as they are"
    return f"{report.tensors} recomputed and {left} left, each equal to the base's sha256"
