"""`adaptr inspect A`"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.output import Output
from adaptr.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.bases import BaseInspection
    from adaptr.artifacts.inspect import Inspection

SUMMARY = "Say what an adapter is, from its header alone."
SECTION = "Look"

#: How many names a list in the text shows; --json has all.
SHOWN = 6
#: How much of an entry of a header the text shows.
WIDEST = 200


@options.command(
    "inspect",
    "adaptr inspect style.safetensors",
    "adaptr inspect ./peft-folder --finite",
    "adaptr inspect style.safetensors --json | jq .method",
    summary=SUMMARY,
    doing="reading",
)
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@click.option("--finite", is_flag=True, help="Also read every value; exit code 1 if one is NaN or infinite.")
@click.option("--base", type=click.Path(), metavar="BASE", help="The base model, for what the adapter does not say.")
@reading.options("source")
def command(output: Output, source: str, finite: bool, base: str | None) -> int:
    """ADAPTER is a file or folder in any known format. The weights are not loaded, and the base is needed
    only for files that leave open what is in them. Of a base model it says how the weights lie, packed or as
    floats.
    """
    import adaptr
    from adaptr.artifacts.bases import BaseInspection

    found = adaptr.inspect(source, finite, base)
    if isinstance(found, BaseInspection):
        output.tell(found.as_dict(), _base(found))
        return 0
    output.tell(found.as_dict(), _blocks(found))
    return 1 if found.nonfinite else 0


def _base(found: BaseInspection) -> Iterator[show.Block]:
    files = f"{found.files} files, " if found.files > 1 else ""
    yield show.Facts(
        {
            "base": f"{found.source} ({files}{show.size(found.size)})",
            "model": found.architecture,
            "numbers": show.number(found.numbers),
            "merged into it": [show.adapter(one) for one in found.merged],
        }
    )
    rows = [
        (one.scheme, one.tensors, show.number(one.numbers), f"{one.bits:.3g}", show.size(one.bytes))
        for one in found.lying
    ]
    yield show.Table(("stored as", "tensors", "numbers", "bits each", "bytes"), rows)


def _blocks(found: Inspection) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "file": f"{found.source} ({found.format}, {show.size(found.size)})",
            "name": f"{found.name} {found.release}".strip(),
            "summary": found.summary,
            "license": found.license,
            "tags": found.tags,
            "method": f"{found.method} (version {found.version})",
            "parts": found.parts,
            "config": found.config,
            "targets": [_group(g.count, g.kind, g.rank) for g in found.targets],
            "trained": f"{show.number(found.trained)} numbers in {found.tensors} tensors, {show.size(found.nbytes)}",
            "dtypes": found.dtypes,
            "replaces": _some(found.replaced),
            "quantised": found.quantization,
            "beside": [f"{name} (weights that are no part of it)" for name in found.beside],
            "finite": "all values are" if found.nonfinite == () else None,
            "not finite": _some(found.nonfinite or ()),
        }
    )
    yield show.Facts({k: v for k, v in dataclasses.asdict(found.base).items() if k != "ties"}, "base")
    yield show.Facts(_training(found.training), "training")
    yield show.Facts({name: shown(text, WIDEST) for name, text in sorted(found.metadata.items())}, "metadata")
    yield from _lineage(found.lineage)
    yield show.Facts({"file": found.file_digest, "weights": found.weights_digest}, "digests")


def _training(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the recipe what was chosen; data and base stand beside it, and digests are for machines."""
    from adaptr.training.fields import fields
    from adaptr.training.recipe import PLACES

    recipe, known = said.get("recipe"), fields()
    if not isinstance(recipe, Mapping):
        return said
    chosen = {
        name: value
        for name, value in recipe.items()
        if name in known and name not in PLACES and value != known[name].default
    }
    return {**said, "recipe": chosen}


def _group(count: int, kind: str, rank: int | None) -> str:
    return f"{count} {kind}" + (f" of rank {rank}" if rank is not None else "")


def _some(names: tuple[str, ...]) -> list[str]:
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return [*names[:SHOWN], *more]


def _lineage(lineage: Mapping[str, Any]) -> Iterator[show.Block]:
    """How it was made, each argument by its name, and a line for each parent."""
    arguments = lineage.get("arguments")
    parents = lineage.get("parents")
    said = {name: value for name, value in lineage.items() if name not in {"arguments", "parents"}}
    yield show.Facts({**said, **(arguments if isinstance(arguments, Mapping) else {})}, "lineage")
    read = [one for one in parents if isinstance(one, Mapping)] if isinstance(parents, list) else []
    rows = [(one.get("name", ""), one.get("format", ""), one.get("weights") or one.get("digest")) for one in read]
    yield show.Table(("name", "format", "weights"), rows, "parents")
