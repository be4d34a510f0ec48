"""What commands share: how they are declared, their common options, and the adapter argument."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from adaptr.cli import completing
from adaptr.cli.helping import Context
from adaptr.cli.output import Output
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from adaptr.sources.resolve import Source

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


#: Sections of a command's help: its own options, and those that every command has.
OWN, COMMON = "Options", "Options of every command"
#: Title of a section to the names of options that many commands take.
SHARED = {"What an adapter's file leaves open": "alpha scale enable_lora task_number initial reft"}


def sections(titles: Mapping[str, str]) -> dict[str, str]:
    """Name of an option to the title of its section, of titles and the names under each."""
    return {name: title for title, names in titles.items() for name in names.split()}


class Command(click.Command):
    """A command with examples, which the help shows and the tests parse."""

    context_class = Context
    examples: tuple[str, ...] = ()
    #: Name of an option to the section of the help that it is in, in their order; those of none are in the first.
    sections: Mapping[str, str] = {}
    #: What it does, said on a terminal as long as nothing else is.
    doing = ""

    def invoke(self, ctx: click.Context) -> object:
        if not (self.doing and isinstance(ctx.obj, Output)):
            return super().invoke(ctx)
        with ctx.obj.busy(self.doing):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        titles = {**sections(SHARED), **self.sections}
        order = (OWN, *self.sections.values(), *SHARED, COMMON)
        found: dict[str, list[tuple[str, str]]] = {title: [] for title in order}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and (record[1] or isinstance(param, click.Option)):  # the usage has the arguments
                name = param.name or ""
                title = COMMON if name in _HELP or "--help" in param.opts else titles.get(name, OWN)
                found[title].append(record)
        for title, records in found.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Group(click.Group):
    context_class = Context


def command(
    name: str, *examples: str, summary: str = "", notes: str = "", doing: str = ""
) -> Callable[[Callable[..., Any]], Command]:
    """A command of that name with `--json`, `--quiet` and `-v`; its function gets the `Output` first.

    Its help is `summary`, which may be the first line of the function's docstring instead, the docstring, and `notes`.
    `doing`: of one that is not done at once, what it does: `composing`.
    """

    def declared(function: Callable[..., Any]) -> Command:
        for option in (_flag("verbose", "-v", "--verbose"), _flag("quiet", "-q", "--quiet"), _flag("json", "--json")):
            function = option(function)
        made = click.command(name, cls=Command)(click.pass_obj(function))
        made.examples, made.doing = examples, doing
        if {"base", "adapters"} <= {param.name for param in made.params if isinstance(param, click.Argument)}:
            made.callback = _base_first(made)
        made.help = "\n\n".join(filter(None, (summary, inspect.cleandoc(made.help or ""), notes)))
        return made

    return declared


def _base_first(made: Command) -> Callable[..., object]:
    """What the command does, and what it says to an adapter in the place of its base."""
    does = made.callback
    assert does is not None

    @functools.wraps(does)
    def ordered(*args: object, base: str, adapters: tuple[Weighted, ...], **given: object) -> object:
        from adaptr.cli.order import base_first

        with base_first(f"adaptr {made.name}", base, [str(one.source) for one in adapters]):
            return does(*args, base=base, adapters=adapters, **given)

    return ordered


def group(name: str, *commands: Command, help: str) -> click.Group:
    """A command of several."""
    return Group(name, {str(one.name): one for one in commands}, help=help, no_args_is_help=False)


_HELP = {
    "json": "Print one JSON object and nothing else.",
    "quiet": "Print nothing but errors.",
    "verbose": "Say more about an error.",
}


def _flag(field: str, *names: str) -> Decorator:
    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if isinstance(ctx.obj, Output):
            setattr(ctx.obj, field, value)

    return click.option(
        *names, field, is_flag=True, is_eager=True, expose_value=False, callback=note, help=_HELP[field]
    )


def output_option(text: str) -> Decorator:
    """`-o OUT`, required, and `--force`."""
    out = click.option("-o", "--out", required=True, type=click.Path(), metavar="OUT", help=text)
    force = click.option("--force", is_flag=True, help="Replace what is at OUT: a file, or a folder that adaptr wrote.")
    return lambda function: out(force(function))


def listed(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def schemes() -> str:
    """What references may begin with, for the help."""
    from adaptr.registry import remotes

    return f"References begin with {listed([f'{name}://' for name in remotes.SORT.names()])}."


drop_option = click.option(
    "--drop", metavar="LAYERS", help="Layers of each stack, from 0, without any adapter: 0-4 or 0,2,5-7 (AdapterDrop)."
)

any_base_option = click.option(
    "--any-base", is_flag=True, help="Go on although an adapter says that it is of another base."
)


def _columns(ctx: click.Context, _: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for pair in pairs:
        own, sign, theirs = pair.partition("=")
        if not (own and sign and theirs):
            raise click.UsageError(f"--map wants NAME=COLUMN, got `{pair}`")
        found[own] = theirs
    return found or None


map_option = click.option(
    "--map",
    "columns",
    multiple=True,
    callback=_columns,
    metavar="NAME=COLUMN",
    help="What the file calls a column of the task: prompt=question.",
)


def fields(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`lam=0.5` as {"lam": 0.5}: numbers and truth values where they are some, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise click.UsageError(f"--set wants FIELD=VALUE, got `{pair}`")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


class Weighted(NamedTuple):
    """An adapter as it was named, with what was said of it, and its weight."""

    source: str | Source
    weight: float


class AdapterParam(click.ParamType):  # type: ignore[type-arg]
    """`A` or `A=WEIGHT`, A being a path, a reference or a name. A path that exists is taken whole, whatever it has."""

    name = "adapter"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Weighted:
        if isinstance(value, Weighted):
            return value
        from adaptr.sources.resolve import weighted

        try:
            return Weighted(*weighted(str(value)))
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return completing.artifacts(ctx, param, incomplete)


ADAPTER = AdapterParam()
