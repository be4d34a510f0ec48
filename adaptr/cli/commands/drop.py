"""`adaptr drop A --layers 0-4 -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.converting.drop import DropReport

SUMMARY = "Write an adapter without some of its layers, which then cost nothing."
SECTION = "Change"


@options.command(
    "drop",
    "adaptr drop style.safetensors --layers 0-4 -o style-above.safetensors",
    "adaptr drop german:1.2 --layers 0,2,5-7 --base ./llama -o german-few.safetensors",
    summary=SUMMARY,
)
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@options.output_option("The file to write.")
@click.option("--layers", required=True, metavar="LAYERS", help="Which, of each stack, from 0: 0-4 or 0,2,5-7.")
@click.option(
    "--base", type=click.Path(), metavar="BASE", help="The base model, whose weights the result is then to know."
)
@reading.options("source")
def command(output: Output, source: str, out: str, layers: str, base: str | None, force: bool) -> None:
    """AdapterDrop, for an adapter of any method: what is left does what it did. How much that changes is to be measured
    (`adaptr eval`): adapters that were trained with `adapterdrop` bear it, others less.
    """
    import adaptr

    report = adaptr.drop(source, out, layers, force=force, base=base)
    output.tell(report.as_dict(), _blocks(report))


def _blocks(report: DropReport) -> Iterator[show.Block]:
    from adaptr.converting.drop import ranges

    yield show.Facts(
        {
            "written": report.out,
            "method": report.method,
            "dropped": f"layers {ranges(report.layers)}",
            "left": f"layers {ranges(report.left)}, {report.targets} of {report.targets_before} targets",
            "numbers": f"{show.number(report.numbers_before)} to {show.number(report.numbers)}",
            "base": "" if report.known else "its weights are not known to the file; `--base` lets it know them",
            "digest": report.digest,
            "time": f"{report.seconds:.2f} s",
        }
    )
