"""`adaptr extract BASE TUNED --rank R -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import options, ranks, show
from adaptr.cli.output import Output
from adaptr.cli.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.extracting.extract import ExtractReport

SUMMARY = "Make a LoRA of a fine-tuned checkpoint minus its base."
SECTION = "Change"


@options.command(
    "extract",
    "adaptr extract ./llama ./llama-tuned --rank 16 -o tuned.safetensors",
    "adaptr extract ./llama ./llama-tuned --energy 0.95 -o tuned.safetensors --embeddings replace",
    "adaptr extract ./bert ./bert-tuned --rank 8 --rest drop -o weights-only.safetensors",
    summary=SUMMARY,
    doing="extracting",
)
@click.argument("base", type=click.Path())
@click.argument("tuned", type=click.Path())
@options.output_option("The file to write.")
@ranks.options
@click.option(
    "--embeddings",
    type=click.Choice(("low-rank", "replace", "drop")),
    default="low-rank",
    show_default=True,
    help="Tables that changed. Those that grew are replaced, unless dropped.",
)
@click.option(
    "--biases",
    type=click.Choice(("delta", "replace", "drop")),
    default="delta",
    show_default=True,
    help="Biases of linear layers: as differences, which add and scale, or whole.",
)
@click.option(
    "--rest",
    type=click.Choice(("replace", "drop")),
    default="replace",
    show_default=True,
    help="Norms, new tensors and all else that changed.",
)
@click.option("--base-name", default="", metavar="NAME", help="What BASE is called on a hub, such as org/model.")
def command(output: Output, base: str, tuned: str, **given: Any) -> None:
    """Both are streamed, tensor by tensor. Each weight's change is cut to the rank by a randomised SVD, and the error
    that this causes is measured; tensors that did not change are left out.
    """
    import adaptr

    with bar(output, "extracting") as progress:
        report = adaptr.extract(base, tuned, progress=progress, **given)
    output.tell(report.as_dict(), _blocks(report))


def _blocks(report: ExtractReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "written": report.out,
            "targets": f"{report.targets}, {show.number(report.numbers)} numbers",
            "ranks": ranks.told(report.ranks),
            "error": ranks.error(report.error, report.error < 1e-6) if report.targets else "",
            "biases": f"{report.biases}, as differences" if report.biases else "",
            "replaced": f"{len(report.replaced)} parameters, whole" if report.replaced else "",
            "dropped": f"{len(report.dropped)} tensors that changed, as asked" if report.dropped else "",
            "unchanged": f"{report.unchanged} tensors" if report.unchanged else "",
            "digest": report.digest,
            "time": f"{report.seconds:.2f} s; CPU over all threads: {report.reading:.2f} s of reading and hashing, "
            f"{report.svd:.2f} s of SVD",
            "note": report.notes,
        }
    )
    yield ranks.table(report.worst)
