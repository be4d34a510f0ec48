"""The fields of a recipe as options of the command line, and what is said of a training before it begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, show
from adaptr.training.fields import Field
from adaptr.training.fields import fields as known

if TYPE_CHECKING:
    from adaptr.training.watching import About

_SECTIONS = {
    "Data": "data task valid second map length pack strict",
    "Adapter": "objective method config targets also adapter name over below",
    "Steps": "steps epochs batch accumulate rate rates schedule warmup decay clip optimizer beta smoothing seed",
    "Memory and machine": "dtype base_quant double_quant checkpointing compile device",
    "Watching": "save_every eval_every log_every report_to samples",
}
#: Field to the section of the help.
SECTIONS = options.sections(_SECTIONS)
_COMPLETING = {
    "method": completing.methods,
    **dict.fromkeys(("adapter", "over", "below"), completing.artifacts),
    **dict.fromkeys(("data", "second", "valid"), completing.files),
}
#: Fields that are an argument, or whose option is called otherwise.
ARGUMENT, CALLED = "base", {"config": "--set"}


def declared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Each field but the base as an option, in their order."""
    for field in reversed(list(known().values())):
        if field.name != ARGUMENT:
            function = _option(field)(function)
    return function


def _option(field: Field) -> Any:
    name = CALLED.get(field.name, f"--{field.name.replace('_', '-')}")
    said = f"{field.help}{_default(field)}"
    if field.kinds == (bool,):
        return click.option(name, field.name, is_flag=True, default=None, help=said)
    several = Mapping in field.kinds or Sequence in field.kinds
    kind: Any = click.Choice(field.choices) if field.choices else {int: int, float: float}.get(field.kinds[0], str)
    shown = (
        None if field.choices else "NAME=VALUE" if Mapping in field.kinds else {int: "N", float: "X"}.get(kind, "TEXT")
    )
    return click.option(
        name,
        field.name,
        type=kind,
        multiple=several,
        default=None,
        metavar=shown,
        help=said,
        shell_complete=_COMPLETING.get(field.name),
    )


def _default(field: Field) -> str:
    return "" if field.required or field.default in (None, "", (), {}, False) else f"  [default: {field.default}]"


def fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were given, as a recipe has them."""
    found = {name: value for name, value in given.items() if value not in (None, ())}
    if "config" in found:
        found["config"] = options.fields(found["config"])
    if "map" in found:
        found["map"] = dict(_pair(one, "--map", "COLUMN=ITS NAME IN THE FILE") for one in found["map"])
    if "rates" in found:
        found["rates"] = {name: _number(value) for name, value in map(_rate, found["rates"])}
    return found


def _pair(text: str, option: str, want: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise click.UsageError(f"{option} wants {want}, got `{text}`")
    return name, value


def _rate(text: str) -> tuple[str, str]:
    return _pair(text, "--rates", "TENSOR=FACTOR")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--rates wants a number behind the `=`, got `{text}`") from None


def about(found: About) -> Iterator[show.Block]:
    """What will be trained, for people."""
    of = f" of {found.parameters_of_base:,}" if found.parameters_of_base else ""
    share = (
        f" ({found.parameters / found.parameters_of_base:.2%})" if found.parameters and found.parameters_of_base else ""
    )
    config = ", ".join(f"{key}={json.dumps(value)}" for key, value in found.config.items())
    yield show.Facts(
        {
            "base": f"{found.base} ({found.architecture})",
            "method": f"{found.method}{config and f' ({config})'}",
            "learns": f"{found.parameters:,}{of}{share}" if found.parameters is not None else "",
            "targets": found.targets,
            "task": found.task,
            "data": _counted(found.data),
            "course": f"{found.steps:,} steps of {found.accumulate} x {found.batch} examples",
            "rate": f"{found.rate:g}, {found.schedule}",
            "machine": f"{found.device}, {found.dtype}",
            "memory": _memory(found.memory),
            "output": found.out,
        }
    )


def _counted(data: Mapping[str, Any]) -> str:
    """Records and tokens, in words."""
    said = [f"{data['records']:,} record{'' if data['records'] == 1 else 's'}"]
    if data.get("validation"):
        said.append(f"{data['validation']:,} more to measure on")
    if data.get("tokens", 0) > data.get("examples", 0):
        said.append(f"{data['tokens']:,} tokens of which {data['learned']:,} are learned")
        shortest, longest = f"{data['shortest']:,}", f"{data['longest']:,}"
        said.append(f"{shortest if shortest == longest else f'{shortest} to {longest}'} tokens an example")
    if data.get("cut_tokens"):
        said.append(f"{data['cut_tokens']:,} tokens cut off")
    return ", ".join(said)


def _memory(found: Mapping[str, int]) -> str:
    """The peak, and what most of it is for."""
    parts = sorted(((count, name) for name, count in found.items() if name != "peak" and count), reverse=True)
    most = ", ".join(f"{name} {show.size(count)}" for count, name in parts[:3])
    return f"{show.size(found['peak'])} at most ({most})" if found else ""
