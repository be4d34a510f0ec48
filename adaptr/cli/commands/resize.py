"""`adaptr resize A --rank R -o OUT`"""

from __future__ import annotations

from typing import Any

import click

from adaptr.cli import completing, options, ranks, reading
from adaptr.cli.output import Output

SUMMARY = "Write an adapter as LoRA of a lower rank."
SECTION = "Change"


@options.command(
    "resize",
    "adaptr resize style.safetensors --rank 8 -o style-8.safetensors",
    "adaptr resize ./peft-folder --energy 0.99 -o small.safetensors",
    "adaptr resize dora.safetensors --rank 32 --base ./llama -o lora.safetensors",
    summary=SUMMARY,
    doing="resizing",
)
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@options.output_option("The file to write.")
@ranks.options
@click.option("--base", type=click.Path(), metavar="BASE", help="The base model, for methods that have no delta alone.")
@reading.options("source")
def command(output: Output, source: str, **given: Any) -> None:
    """The optimum at each target, computed on the factors; the error is measured and printed. Of ranks and energy, the
    smaller result counts where both are given.
    """
    import adaptr

    report = adaptr.resize(source, **given)
    output.tell(report.as_dict(), ranks.blocks(report))
