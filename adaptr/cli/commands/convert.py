"""`adaptr convert A -o OUT [--to FORMAT] [--method NAME]`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, ranks, reading, show
from adaptr.cli.output import Output
from adaptr.errors import UsageError
from adaptr.foreign.formats import OWN, choices
from adaptr.serving import GGUF
from adaptr.serving import names as servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.converting.convert import ConvertReport
    from adaptr.converting.everywhere import EverywhereReport

#: For `--to`: every format.
ALL = "all"
SUMMARY = "Write an adapter in another format, or as another method."
SECTION = "Change"


@options.command(
    "convert",
    "adaptr convert ./peft-folder -o style.safetensors",
    "adaptr convert style.safetensors --to peft -o ./peft-folder",
    "adaptr convert style.safetensors --to all --base ./llama -o ./everywhere",
    "adaptr convert ./old-adapter -o new.safetensors --base ./llama --force",
    "adaptr convert loha.safetensors --method lora -o lora.safetensors",
    "adaptr convert style.safetensors --for vllm --rank 16 --base ./llama -o ./served",
    "adaptr convert style.safetensors --for vllm --drop 0-4 --base ./llama -o ./served",
    "adaptr convert style.safetensors --for llama-server --base ./llama -o ./served",
    "adaptr convert dora.safetensors --method lora --rank 32 --base ./llama -o lora.safetensors",
    summary=SUMMARY,
    doing="converting",
)
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@options.output_option("The file or folder to write.")
@click.option(
    "--to",
    default=OWN,
    show_default=True,
    metavar="FORMAT",
    shell_complete=completing.formats,
    help=f"The format: {options.listed(choices())}; peft@0.5 for an older PEFT; all for each that can hold it.",
)
@click.option("--lossy", is_flag=True, help="Go on although FORMAT can't hold everything.")
@click.option(
    "--base",
    type=click.Path(),
    metavar="BASE",
    help="The base model: what the adapter does not say, and the names of its layers.",
)
@click.option(
    "--method",
    metavar="NAME",
    shell_complete=completing.methods,
    help="Write the same change as another method: lora, full; prompt or prefix.",
)
@click.option(
    "--for",
    "server",
    metavar="SERVER[@VERSION]",
    shell_complete=completing.servers,
    help=f"A folder that SERVER loads: {options.listed([*servers(), *GGUF])}.",
)
@options.drop_option
@ranks.options
@reading.options("source")
def command(output: Output, source: str, method: str | None, server: str | None, **given: Any) -> None:
    """The format of ADAPTER is found by looking. The report says what was kept, renamed and lost; losing anything needs
    --lossy. There and back again gives the same bytes in every tensor. With --method the change is the same, exactly;
    where there is no exact form, --rank or --energy give the nearest, and its error is printed.
    """
    import adaptr

    if server is not None:
        if method is not None or given["energy"] is not None or given["to"] != "adaptr":
            raise UsageError(
                "--for decides on the format and the method",
                hint="leave out the other options: --rank, --base, --dtype and --drop alone go with it",
            )
        chosen = {name: given[name] for name in ("rank", "force", "base", "dtype", "drop")}
        served = adaptr.serve(source, given["out"], server, **chosen)
        output.tell(served.as_dict(), [show.Facts(served.as_dict())])
        return
    if given.pop("drop") is not None:
        raise UsageError("--drop goes with --for", hint="`adaptr drop` writes any adapter without some of its layers")
    if method is not None:
        changed = adaptr.convert_method(source, method=method, **given)
        output.tell(changed.as_dict(), ranks.blocks(changed))
        return
    if any(given.pop(name) is not None for name in ("rank", "energy")):
        raise UsageError("--rank and --energy go with --method", hint="`adaptr resize` changes the rank alone")
    if given.pop("dtype") is not None:
        raise UsageError(
            "--dtype goes with --method or --for: a change of format keeps every number as it is", hint="leave it out"
        )
    given.pop("energy", None)
    if given["to"] == ALL:
        from adaptr.converting.everywhere import everywhere

        given.pop("to")
        each = everywhere(source, **given)
        output.tell(each.as_dict(), _everywhere(each))
        return
    report = adaptr.convert(source, **given)
    output.tell(report.as_dict(), _blocks(report))


command.sections = options.sections(
    {
        "Result": "out force",
        "Another format": "to lossy base",
        "Another method": "method rank energy dtype",
        "For a server": "server drop",
    }
)


def _everywhere(report: EverywhereReport) -> Iterator[show.Block]:
    rows = [[name, one.out, f"lost: {', '.join(one.lost)}" if one.lost else "everything"]
            for name, one in report.written.items()]  # fmt: skip
    yield show.Table(["format", "written to", "holds"], rows)
    yield show.Facts({"left out": _beside(next(iter(report.written.values())))})
    if report.refused:
        yield show.Facts(report.refused, "not written")


def _beside(report: ConvertReport) -> list[str]:
    return [f"{name} (weights beside the adapter)" for name in report.beside]


def _blocks(report: ConvertReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "from": f"{report.source} ({report.source_format})",
            "to": f"{report.out} ({report.format})",
            "method": f"{report.method}, {report.targets} targets, {report.tensors} tensors",
            "tensors": f"{len(report.kept)} under the same name, {len(report.renamed)} renamed",
            "lost": report.lost or "nothing",
            "note": ["targets are numbered layers; give --base to name them"] * report.unplaced + [*report.notes],
            "left out": _beside(report),
            "digest": report.digest,
        }
    )
    if report.renamed:
        old, new = report.renamed[0]
        yield f"such as {old}\n     -> {new}"
