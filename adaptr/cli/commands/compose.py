"""`adaptr compose A[=W]... --strategy S -o OUT`, `adaptr compose RECIPE.yaml -o OUT`"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, ranks, reading, show, tuning
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.errors import UsageError
from adaptr.strategies import SORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.composing.compose import ComposeReport

SUMMARY = "Make one adapter of several."
SECTION = "Change"


@options.command(
    "compose",
    "adaptr compose style.safetensors=0.7 peft-folder/=0.3 -o mixed.safetensors",
    "adaptr compose a.safetensors b.safetensors --strategy ties --density 0.2 --rank 16 -o mixed.safetensors",
    "adaptr compose good.safetensors bad.safetensors=-0.5 --strategy task-arithmetic -o less-bad.safetensors",
    "adaptr compose recipe.yaml -o mixed.safetensors",
    "adaptr compose a.safetensors b.safetensors --tune --data held-out.jsonl --base ./smollm2 -o mixed.safetensors",
    summary=SUMMARY,
    doing="composing",
)
@click.argument("adapters", nargs=-1, required=True, type=ADAPTER, metavar="ADAPTER[=W]...|RECIPE.yaml")
@options.output_option("The adapter to write.")
@click.option(
    "--strategy",
    default="linear",
    show_default=True,
    metavar="NAME",
    shell_complete=completing.strategies,
    help=f"How deltas become one: {options.listed(SORT.names())}.",
)
@click.option("--density", type=float, help="The share of elements kept, for strategies that thin out.")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Another field of the strategy.")
@click.option("--rank", type=int, help="Cut the result to this rank.")
@click.option("--energy", type=float, help="Cut it to the smallest rank with this share of its energy.")
@ranks.dtype
@click.option("--normalize/--no-normalize", default=None, help="Divide the weights by their sum.")
@click.option("--seed", type=int, default=0, show_default=True, help="For strategies that draw.")
@click.option(
    "--replaced",
    type=click.Choice(("refuse", "first", "average", "drop")),
    default="refuse",
    show_default=True,
    help="What becomes of biases and whole parameters of several adapters.",
)
@click.option("--base", type=click.Path(), metavar="BASE", help="The base, for methods whose delta depends on it.")
@click.option("--any-base", is_flag=True, help="Go on although the adapters name their base differently.")
@click.option("--name", default="", help="The name of the result.")
@tuning.options
@reading.options("adapters")
def command(
    output: Output, adapters: tuple[Weighted, ...], out: str, force: bool, html: str | None, **given: Any
) -> None:
    """At each target the strategy makes one delta of the adapters' deltas, in factor space where there are factors;
    what it approximates is measured. `docs/strategies.md` lists the strategies and their fields. A recipe is a YAML
    file with inputs, strategy and options; the same recipe gives the same bytes.

    With --tune weights, or whatever --over names, are chosen by the loss on half of the records of --data, and the
    result is looked at on the other half. A search that was stopped goes on when the command is given again.
    """
    import adaptr
    from adaptr.composing import recipe_file
    from adaptr.sources.resolve import resolve

    config = {**options.fields(given.pop("fields")), **_density(given.pop("density"))}
    wanted, search = tuning.taken(given)
    if len(adapters) == 1 and recipe_file.named(adapters[0].source):
        _refuse_options()
        what: Any = adapters[0].source
        wanted = recipe_file.read(resolve(what).path).tune is not None
        said: dict[str, Any] = {"out": out, "force": force}
    else:
        what = [(one.source, one.weight) for one in adapters]
        said = {**given, **config, "out": out, "force": force}
    if wanted:
        tuning.run(output, what, {**search, **said}, html, _blocks)
        return
    tuning.refuse_page(html)
    made = adaptr.compose(what, **said)
    output.tell(made.report.as_dict(), _blocks(made.report))


command.sections = options.sections(
    {
        "Formula": "strategy density fields normalize seed replaced",
        "Result": "out force rank energy dtype name",
        "Weights by search": "tune data trials over hold_out task columns length batch html",
    }
)


def _density(value: float | None) -> dict[str, float]:
    return {} if value is None else {"density": value}


def _refuse_options() -> None:
    """A recipe says everything itself; an option beside it would be lost."""
    context = click.get_current_context()
    said = [p for p in context.params if context.get_parameter_source(p) is click.core.ParameterSource.COMMANDLINE]
    beside = sorted(set(said) - {"adapters", "out", "force", "html"})
    if beside:
        raise UsageError(
            "a recipe says everything itself",
            hint=f"leave out `--{beside[0].replace('_', '-')}`, or say it in the recipe",
        )


def _blocks(report: ComposeReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "composed": report.out,
            "inputs": [f"{one['label']} (weight {_weight(one['weight'])})" for one in report.inputs],
            "strategy": f"{report.strategy}{_said(report.config)}",
            "result": f"{report.method}, {report.targets} targets{_ranks(report.ranks)}",
            "alone": f"{report.alone} targets are not changed by all inputs" if report.alone else "",
            "error": f"{show.share(report.error)} against the strategy's exact result" if report.error else "none",
            "from sum": "" if report.distance is None else f"{show.share(report.distance)} from the weighted sum",
            "replaced": report.replaced,
            "lost": report.lost,
            "written": show.size(report.bytes),
            "time": f"{report.seconds:.2f} s",
            "digest": report.digest,
        }
    )


def _weight(weight: object) -> str:
    return f"{weight:g}" if isinstance(weight, float) else str(weight)


def _said(config: Mapping[str, object]) -> str:
    return f" ({', '.join(f'{k} {v}' for k, v in config.items())})" if config else ""


def _ranks(ranks: tuple[int, ...]) -> str:
    if not ranks:
        return ""
    return f" of rank {ranks[0]}" if ranks[0] == ranks[1] else f" of rank {ranks[0]} to {ranks[1]}"
