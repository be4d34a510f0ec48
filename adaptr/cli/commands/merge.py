"""`adaptr merge BASE ADAPTER[=W]... -o OUT`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.cli.weights import by_place, weight_option
from adaptr.errors import UsageError
from adaptr.packings import SORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptr.merging.merge import MergeReport
    from adaptr.merging.unpacked import Compensated, PackedAgain

SUMMARY = "Merge adapters into a base checkpoint, tensor by tensor."
SECTION = "Merge"
#: Of what is put into a LoRA beside, where none is said.
RANK = 16


@options.command(
    "merge",
    "adaptr merge ./llama style.safetensors -o ./llama-style",
    "adaptr merge ./llama style.safetensors=0.7 peft-folder/=0.3 -o ./mixed",
    "adaptr merge sdxl.safetensors style.safetensors=0.8 --weight lbw:MIDD -o sdxl-style.safetensors",
    "adaptr merge llama-q8_0.gguf style.safetensors -o llama-style-q8_0.gguf",
    "adaptr merge ./llama style.safetensors -o ./out --dtype fp32",
    "adaptr merge ./gpt2 head.safetensors -o ./out --tied untie --no-receipt",
    summary=SUMMARY,
    doing="merging",
)
@click.argument("base", type=click.Path())
@click.argument("adapters", nargs=-1, required=True, type=ADAPTER, metavar="ADAPTER[=W]...")
@options.output_option("The merged checkpoint: a folder, or a file of a base that is one.")
@click.option("--tied", type=click.Choice(("both", "untie")), help="What to do with tied weights that change.")
@click.option(
    "--packed",
    is_flag=True,
    help="Pack the changed weights of a quantised base again, not as floats. "
    f"Bases are read as {options.listed(SORT.names())} has them.",
)
@click.option("--lossy", is_flag=True, help="Go on where less than half of the change survives packing.")
@click.option("--compensate", is_flag=True, help="With --packed, put what is lost into a LoRA beside the receipt.")
@click.option("--rank", type=click.IntRange(1), help="The rank of --compensate.  [default: 16]")
@click.option(
    "--dtype",
    metavar="NAME",
    shell_complete=completing.dtypes,
    help="Write all floats as fp32, bf16 or fp16, not each in its own dtype.",
)
@click.option("--receipt/--no-receipt", default=True, help="Keep what a bit-exact unmerge needs.  [default: receipt]")
@weight_option
@options.any_base_option
@click.option("--ignore-beside", is_flag=True, help="Leave out other weights that lie in an adapter's folder.")
@reading.options("adapters")
def command(
    output: Output,
    base: str,
    adapters: tuple[Weighted, ...],
    weights: Mapping[str, float] | None,
    compensate: bool,
    rank: int | None,
    **given: Any,
) -> None:
    """BASE is a folder with safetensors, a pipeline of diffusers, or one file; it is streamed, so memory does not grow
    with the model. All adapters go in at once, each at its weight, computed in fp32 and rounded once. OUT is complete
    or not there, and loads like BASE; with `.safetensors` behind its name it is one file as BASE is, and the receipt
    lies beside it in OUT.adaptr. A GGUF file, llama.cpp's, becomes OUT.gguf with each tensor in its own type, or in
    Q8_0 where that can only be read. In a wider `--dtype` less of a small adapter is rounded away; after a narrower one
    the merge can't be undone.
    """
    import adaptr

    if rank is not None and not compensate:
        raise UsageError("`--rank` is that of `--compensate`", hint="say both, or leave it out")
    given["compensate"] = (rank or RANK) if compensate else None
    with bar(output, "merging") as progress:
        report = adaptr.merge(base, by_place(adapters, weights), progress=progress, **given)
    output.tell(report.as_dict(), _blocks(report))


command.sections = options.sections(
    {
        "Result": "out force dtype receipt",
        "Tied and packed bases": "tied packed lossy compensate rank",
    }
)


def _blocks(report: MergeReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "merged into": report.out,
            "adapters": [show.adapter(a, one.adapter) for a, one in zip(report.adapters, report.compared, strict=True)],
            "base": [one.words for one in report.compared],
            "targets": report.targets,
            "tensors": f"{report.tensors} changed",
            "change": f"{show.share(report.relative_delta)} of the weights' size (Frobenius)",
            "unmoved": f"{show.share(report.unchanged)} of the changed weights' elements, by rounding",
            "dtype": f"{report.dtype}, which rounds {show.share(report.rounding)} of it" if report.dtype else "",
            "tied": report.tied,
            "added": report.added,
            "written": show.size(report.bytes),
            "receipt": show.size(report.receipt_bytes)
            if report.exact
            else "names base and adapters; can't be unmerged",
            "time": f"{report.seconds:.2f} s",
            "note": report.notes,
        }
    )
    if report.packed is not None:
        yield from _packed_again(report.packed)


def _compensated(made: Compensated | None) -> str:
    if made is None:
        return ""
    return f"{made.file} (rank {made.rank}, {show.size(made.bytes)}); attached, off by {show.share(made.left)}"


def _packed_again(packed: PackedAgain) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "packed again": packed.scheme,
            "its rounding": f"{show.share(packed.error)} of the weights",
            "survived": f"{show.share(packed.survived)} of the change",
            "off by": f"{show.share(packed.left)} of the change's size",
            "compensation": _compensated(packed.compensation),
        }
    )
    yield show.Table(
        ("weight", "scheme", "its rounding", "survived", "off by"),
        [
            (name, one["scheme"], show.share(one["error"]), show.share(one["survived"]), show.share(one["left"]))
            for name, one in packed.tensors.items()
        ],
    )
