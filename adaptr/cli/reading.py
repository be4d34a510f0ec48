"""`--alpha` and its kin: what is said of adapters whose files do not hold it, for the commands that read some."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli.options import Decorator, Weighted

if TYPE_CHECKING:
    from adaptr.foreign.supplied import Supplied


def options(*names: str) -> Decorator:
    """The options, which go with the adapters that the parameters of these names are."""

    def declared(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def told(
            *args: object,
            alpha: float | None,
            scale: float | None,
            enable_lora: tuple[bool, ...] | None,
            task_number: int | None,
            initial: str | None,
            reft: str | None,
            positions: str | None,
            **given: object,
        ) -> object:
            from adaptr.foreign.supplied import Supplied

            supplied = Supplied(alpha, scale, enable_lora, task_number, initial, reft, positions)
            said = {name: _supplying(given[name], supplied) for name in names} if supplied else {}
            return function(*args, **{**given, **said})

        for option in reversed(_OPTIONS):
            told = option(told)
        return told

    return declared


def _supplying(given: object, supplied: Supplied) -> object:
    """One adapter, or several, each with what is said of all."""
    from adaptr.sources.resolve import resolve

    if isinstance(given, Weighted):
        return given._replace(source=resolve(given.source).supplying(supplied))
    if isinstance(given, tuple):
        return tuple(_supplying(one, supplied) for one in given)
    return resolve(str(given)).supplying(supplied)


def _mask(ctx: click.Context, _: click.Parameter, text: str | None) -> tuple[bool, ...] | None:
    """`1,0,1` as truth values."""
    if text is None:
        return None
    parts = text.split(",")
    if not set(parts) <= {"0", "1"}:
        raise click.BadParameter(f"wanted 0 and 1 for each part, such as 1,0,1, got `{text}`")
    return tuple(part == "1" for part in parts)


_OPTIONS = (
    click.option(
        "--alpha",
        type=float,
        metavar="NUMBER",
        help="Of an adapter whose file does not hold it: what scales it, times its rank.",
    ),
    click.option("--scale", type=float, metavar="NUMBER", help="The same without the rank, instead of --alpha."),
    click.option(
        "--enable-lora",
        callback=_mask,
        metavar="1,0,1",
        help="Of loralib: which parts of a fused projection have factors.",
    ),
    click.option("--task-number", type=int, metavar="N", help="Of PEFT's Poly: which of its tasks, 0 for the first."),
    click.option(
        "--initial",
        type=click.Path(),
        metavar="FOLDER",
        help="Of PEFT's that changed the base first (PiSSA, CorDA ...): the adapter saved before training.",
    ),
    click.option(
        "--reft", metavar="NAME", help="Of AdapterHub: noreft or direft, which its files can't be told apart by."
    ),
    click.option(
        "--positions",
        metavar="f7+l7",
        help="Of pyreft: at how many of a prompt's first and last tokens it was trained.",
    ),
)
