"""`adaptr stack ADAPTER[=W]... -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import options, reading, show
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.runtime.stacked import StackReport

SUMMARY = "Put several adapters in one file, to be applied together."
SECTION = "Change"


@options.command(
    "stack",
    "adaptr stack style.safetensors peft-folder/=0.3 -o mixture.safetensors",
    "adaptr stack lora.safetensors dora.safetensors prefix.safetensors -o all.safetensors --base ./smollm2",
    summary=SUMMARY,
    doing="stacking",
)
@click.argument("adapters", nargs=-1, required=True, type=ADAPTER, metavar="ADAPTER[=W]...")
@options.output_option("The file to write.")
@click.option("--base", type=click.Path(), metavar="BASE", help="The base, for files that leave open what is where.")
@options.any_base_option
@reading.options("adapters")
def command(
    output: Output, adapters: tuple[Weighted, ...], out: str, force: bool, base: str | None, any_base: bool
) -> None:
    """Adapters of any methods keep what they are, in their order and each at its weight; `compose` makes one adapter of
    several instead. The file has the digest of each, and is refused where one is not what it was.
    """
    from adaptr.runtime.stacked import stacked

    report = stacked(adapters, out, base=base, any_base=any_base, force=force)
    output.tell(report.as_dict(), _blocks(report))


def _blocks(report: StackReport) -> Iterator[show.Block]:
    yield show.Facts({"stacked": report.out, "written": show.size(report.bytes), "digest": report.digest})
    rows = [(a["name"], a["method"], f"{a['weight']:g}", a["digest"]) for a in report.adapters]
    yield show.Table(("name", "method", "weight", "weights"), rows, right=frozenset({"weight"}))
