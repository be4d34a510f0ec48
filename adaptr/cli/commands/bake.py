"""`adaptr bake BASE ADAPTER -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.runtime.bake_file import BakeReport

SUMMARY = "Write what a prompt or prefix leaves in the cache of its model."
SECTION = "Change"


@options.command(
    "bake",
    "adaptr bake ./smollm2 prompt.safetensors -o baked.safetensors",
    summary=SUMMARY,
)
@click.argument("base", type=click.Path())
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@options.output_option("The file to write.")
@options.any_base_option
@reading.options("source")
def command(output: Output, base: str, source: str, out: str, force: bool, any_base: bool) -> None:
    """OUT holds keys and values: a prefix that computes nothing, for this model alone. It does what ADAPTER does; in
    Python `adaptr.bake(model, OUT)` is the cache that generations go on from without an adapter attached.
    """
    import adaptr

    report = adaptr.bake_file(base, source, out, force=force, any_base=any_base)
    output.tell(report.as_dict(), _blocks(report))


def _blocks(report: BakeReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "written": f"{report.out} ({show.size(report.bytes)})",
            "method": f"{report.method_before} to {report.method}",
            "tokens": f"{report.tokens} before the text",
            "digest": report.digest,
            "time": f"{report.seconds:.2f} s",
        }
    )
