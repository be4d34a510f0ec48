"""`adaptr verify MERGED --base BASE --adapter A[=W]...`"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from adaptr.cli import options, show
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.cli.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.ops.verify import VerifyReport

#: How many differing tensors are listed.
SHOWN = 10


@options.command(
    "verify",
    "adaptr verify ./llama-style --base ./llama --adapter style.safetensors",
    "adaptr verify ./mixed --base ./llama --adapter style.safetensors=0.7 --adapter peft-folder/=0.3",
)
@click.argument("merged", type=click.Path())
@click.option("--base", required=True, type=click.Path(), metavar="BASE", help="What was merged into.")
@click.option("--adapter", "adapters", multiple=True, required=True, type=ADAPTER, metavar="A[=W]", help="As merged.")
def command(output: Output, merged: str, base: str, adapters: tuple[Weighted, ...]) -> int:
    """Prove that a checkpoint is its base with these adapters merged.

    The merge is computed again and compared with what MERGED holds, and everything else with BASE. Exit code 1 says
    that they differ; the output says where.
    """
    from adaptr import api

    with bar(output, "verifying") as progress:
        report = api.verify(merged, base, adapters, progress=progress)
    output.tell(report.as_dict(), _blocks(report))
    return 0 if report.ok else 1


def _blocks(report: VerifyReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "checkpoint": report.merged,
            "verdict": _verdict(report),
            "tensors": f"{report.tensors}, {report.recomputed} of them recomputed",
            "elements": f"{show.number(report.different)} of {show.number(report.elements)} differ",
            "largest error": _error(report),
        }
    )
    rows = [(d.tensor, d.reason, show.number(d.different), d.ulps, d.error) for d in report.differences[:SHOWN]]
    columns = ("tensor", "what", "elements", "ulps", "error")
    spare = frozenset({"elements", "ulps"})
    yield show.Table(columns, rows, right=spare | {"error"}, spare=spare)
    if len(report.differences) > SHOWN:
        yield f"and {len(report.differences) - SHOWN} more; --json has all"


def _error(report: VerifyReport) -> str:
    if not report.different:
        return ""
    if not math.isfinite(report.error):
        return "not measured against the change: what the adapters leave alone differs"
    return f"{show.share(report.error)} of the change"


def _verdict(report: VerifyReport) -> str:
    if report.exact:
        return "proven: base and adapters give these very bits"
    return "proven, up to rounding" if report.ok else "NOT PROVEN"
