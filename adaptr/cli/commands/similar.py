"""`adaptr similar PROMPT [PROMPT...]`"""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adaptr.artifacts.similar import Similar

SUMMARY = "Find prompts of tasks like another's, to begin from (SPoT)."
SECTION = "Look"


@options.command(
    "similar",
    "adaptr similar early.safetensors",
    "adaptr similar early.safetensors mnli.safetensors squad:1.0 --k 2 --metric pairs --json",
    summary=SUMMARY,
)
@click.argument("target", metavar="PROMPT", type=click.Path(), shell_complete=completing.artifacts)
@click.argument("sources", nargs=-1, metavar="[SOURCE]...", type=click.Path(), shell_complete=completing.artifacts)
@click.option("--k", type=click.IntRange(1), default=3, show_default=True, metavar="N", help="How many, the nearest.")
@click.option(
    "--metric",
    type=click.Choice(("mean", "pairs")),
    default="mean",
    show_default=True,
    help="The cosine of the mean tokens, or the mean cosine of all pairs of tokens.",
)
@reading.options("target", "sources")
def command(output: Output, target: str, sources: tuple[str, ...], k: int, metric: Literal["mean", "pairs"]) -> None:
    """PROMPT is one that has been trained a little. Without SOURCEs those of the store are looked at that are for the
    same base and of its size.
    """
    import adaptr

    found = adaptr.similar(target, sources or None, k, metric)
    output.tell({"target": target, "found": [asdict(one) for one in found]}, _blocks(found))


def _blocks(found: Sequence[Similar]) -> Iterator[show.Block]:
    if not found:
        yield show.Prose("the store has no prompt for the same base and of the same size")
        return
    rows = [(one.source, f"{one.similarity:.4f}", f"{one.weight:.4f}") for one in found]
    yield show.Table(("prompt", "cosine", "weight"), rows, right=frozenset({"cosine", "weight"}))
    terms = shlex.join(f"{one.source}={one.weight:.4g}" for one in found if one.weight)
    if terms:
        yield f"to begin from their mean: adaptr compose {terms} --strategy average -o mean.safetensors"
