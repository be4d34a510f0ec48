"""`adaptr quantize A --scheme SCHEME -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.converting.quantize import QuantizeReport

SUMMARY = "Write an adapter in fewer bits, and say what that costs."
SECTION = "Change"


def _share(ctx: click.Context, _: click.Parameter, text: str | None) -> float | None:
    """`1%` as 0.01, `0.01` too."""
    if text is None:
        return None
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise click.BadParameter(f"wanted a share such as 1% or 0.01, got `{text}`") from None


@options.command(
    "quantize",
    "adaptr quantize style.safetensors --scheme int8 -o style-8.safetensors",
    "adaptr quantize ./peft-folder --scheme nf4 -o style-4.safetensors",
    "adaptr quantize style.safetensors --error 1% -o small.safetensors",
    "adaptr quantize style.safetensors --error 2% --by-rank -o small.safetensors",
    summary=SUMMARY,
    doing="quantizing",
)
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@options.output_option("The file to write.")
@click.option(
    "--scheme", metavar="SCHEME", shell_complete=completing.schemes, help="fp16, bf16, int8, fp8, nf4 or int4-g32."
)
@click.option(
    "--error",
    callback=_share,
    metavar="SHARE",
    help="Instead of a scheme, the smallest for each target that changes no more of what it does: 1%.",
)
@click.option("--by-rank", is_flag=True, help="With --error, keep more bits of a LoRA's larger singular directions.")
@reading.options("source")
def command(output: Output, source: str, **given: Any) -> None:
    """OUT is loaded, attached, merged and served like any adapter. The error is measured on what each target does, and
    the file declares it. Vectors and whole parameters stay as they are.
    """
    import adaptr

    report = adaptr.quantize_file(source, **given)
    output.tell(report.as_dict(), _blocks(report))


#: What an error is of, in words.
_OF = {
    "delta": "of a target's change",
    "change": "of a target's distance from 1",
    "tensors": "of a tensor; what becomes of the change depends on the base",
    "parts": "of what a part declares",
}


def _blocks(report: QuantizeReport) -> Iterator[show.Block]:
    before = f"{show.size(report.bytes_before)} to " if report.bytes_before else ""
    yield show.Facts(
        {
            "written": f"{report.out} ({before}{show.size(report.bytes)})",
            "method": report.method,
            "scheme": report.scheme,
            "allowed": None if report.wanted is None else show.share(report.wanted),
            "error": f"at most {show.share(report.error)} {_OF[report.of]} (relative, Frobenius)",
            "digest": report.digest,
            "time": f"{report.seconds:.2f} s",
        }
    )
    rows = [
        (one.targets, one.count, one.scheme, show.share(one.error), show.size(one.bytes_before), show.size(one.bytes))
        for one in report.groups
    ]
    numbers = frozenset({"number", "error", "before", "after"})
    yield show.Table(("targets", "number", "scheme", "error", "before", "after"), rows, right=numbers)
