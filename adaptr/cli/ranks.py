"""What commands that choose ranks share: their options, and how they tell what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import show

if TYPE_CHECKING:
    from adaptr.results.ranks import Fitted, RankReport


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--rank R`, `--energy E` and `--dtype NAME`."""
    rank = click.option("--rank", type=int, metavar="R", help="The highest rank of a target.")
    energy = click.option(
        "--energy", type=float, metavar="E", help="Keep this share of the squared size of each target's change."
    )
    return rank(energy(dtype(function)))


#: What a result is stored in. The error that is told is that of what is stored.
dtype = click.option(
    "--dtype",
    metavar="NAME",
    help="Store it as fp64, fp32, fp16 or bf16; by default in the wider of fp32 and the source.",
)


def blocks(report: RankReport) -> Iterator[show.Block]:
    """What a resize or a change of method did."""
    yield show.Facts(
        {
            "written": f"{report.out} ({report.format})",
            "method": f"{report.method_before} to {report.method}, {report.targets} targets",
            "ranks": told(report.ranks),
            "error": error(report.error, report.exact),
            "numbers": f"{show.number(report.numbers_before)} to {show.number(report.numbers)}",
            "biases": f"{report.biases}, as they were" if report.biases else "",
            "replaced": f"{len(report.replaced)} parameters, as they were" if report.replaced else "",
            "lost": report.lost,
            "digest": report.digest,
            "time": f"{report.seconds:.2f} s",
        }
    )
    yield table(report.worst)


def told(ranks: Mapping[int, int]) -> str:
    """Ranks in words: one, or the range and where most are."""
    if len(ranks) < 2:
        return "".join(str(rank) for rank in ranks)
    mean = sum(rank * count for rank, count in ranks.items()) / sum(ranks.values())
    return f"{min(ranks)} to {max(ranks)}, {mean:.3g} on average"


def error(relative: float, exact: bool) -> str:
    if exact:
        return "none: the same change but for rounding"
    return f"{show.share(relative)} of the change (relative, Frobenius), {show.share(relative**2)} of its energy"


def table(worst: Sequence[Fitted]) -> show.Table:
    """The targets with the largest errors."""
    rows = [(fitted.path, fitted.rank, show.share(fitted.error)) for fitted in worst]
    return show.Table(("largest errors", "rank", "error"), rows, right=frozenset({"rank", "error"}))
