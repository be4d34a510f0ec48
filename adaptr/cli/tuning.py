"""What `adaptr compose --tune` is asked and says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import show
from adaptr.cli.options import Decorator, map_option
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from adaptr.composing.compose import ComposeReport
    from adaptr.evaluating.bootstrap import Interval
    from adaptr.tuning.report import TuneReport

#: Options that only a search reads, by the names that `adaptr.tune` has for them.
FIELDS = ("data", "trials", "over", "hold_out", "task", "columns", "length", "batch")
#: Trials that the text shows, the best first.
SHOWN = 5

_OPTIONS: tuple[Decorator, ...] = (
    click.option("--tune", is_flag=True, help="Choose weights, or what --over names, by the loss on --data."),
    click.option("--data", type=click.Path(), metavar="FILE", help="Records to measure on."),
    click.option("--trials", type=int, metavar="N", help="Measurements.  [default: 30]"),
    click.option(
        "--over",
        multiple=True,
        metavar="WHAT",
        help="weights=0..2, density, rank=4,8, strategy=linear,ties.  [default: weights]",
    ),
    click.option("--hold-out", type=float, metavar="SHARE", help="Records only looked at.  [default: 0.5]"),
    click.option("--task", metavar="TASK", help="lm, classify, ...  [default: by base and columns]"),
    map_option,
    click.option("--length", type=click.IntRange(2), metavar="N", help="Tokens of a record, at most."),
    click.option("--batch", type=click.IntRange(1), metavar="N", help="Records a forward.  [default: 8]"),
    click.option("--html", type=click.Path(), metavar="FILE", help="Also write a page with a picture of the search."),
)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def taken(given: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether a search is wanted, and its options, taken out of `given`. Raises `UsageError` for some without it."""
    wanted = given.pop("tune")
    found = {name: value for name in FIELDS if (value := given.pop(name)) not in (None, ())}
    if found and not wanted:
        name = {"columns": "map"}.get(next(iter(found)), next(iter(found))).replace("_", "-")
        raise UsageError(f"`--{name}` is for a search", hint="say `--tune` too, or leave it out")
    return wanted, found


def refuse_page(html: str | None) -> None:
    if html is not None:
        raise UsageError("`--html` shows a search", hint="say `--tune` too, or leave it out")


def run(
    output: Output,
    adapters: str | list[tuple[str, float]],
    given: dict[str, Any],
    html: str | None,
    composed: Callable[[ComposeReport], Iterable[show.Block]],
) -> None:
    """Search, and say what was found. `composed`: says what was composed."""
    import adaptr

    if html is not None:
        from adaptr.cli import html as pages
        from adaptr.cli import tune_page

        pages.require(html, given["force"], given.get("base"), given.get("data"), given["out"])
    with bar(output, "searching", steps=True) as progress:
        report = adaptr.tune(adapters, progress=progress, **given).report
    if html is not None:
        pages.write(tune_page.page(report), Path(html), given["force"])
    output.tell(report.as_dict(), _blocks(report, composed, html))


def _blocks(
    report: TuneReport, composed: Callable[[ComposeReport], Iterable[show.Block]], html: str | None
) -> Iterator[show.Block]:
    yield from composed(report.composed)
    order = sorted(
        (number for number, trial in enumerate(report.trials) if trial.loss is not None),
        key=lambda number: (report.trials[number].loss, number),
    )
    rows = [(n + 1, f"{report.trials[n].loss:.4f}", report.said(n)) for n in order[:SHOWN]]
    yield show.Table(("trial", "loss", "with"), rows, right=frozenset({"trial", "loss"}), title="The best trials")
    models = [(m.name, "" if m.tuned is None else f"{m.tuned:.4f}", interval(m.held)) for m in report.models]
    yield show.Table(("", "loss", "held out"), models, right=frozenset({"loss", "held out"}))
    refused = sum(trial.loss is None for trial in report.trials)
    yield show.Facts(
        {
            "searched": [_dimension(one) for one in report.space],
            "trials": f"{len(report.trials)}, {'strengths on a live model' if report.live else 'composed in memory'}"
            + (f"; {report.resumed} of them from before" if report.resumed else "")
            + (f"; {refused} could not be made" if refused else ""),
            "records": f"{report.records} to choose by, {report.held} held out",
            f"over {report.single}": interval(report.over_single, signed=True),
            "over the base": interval(report.over_base, signed=True),
            "note": report.notes,
            "page": html,
            "search": f"{report.seconds:.1f} s",
        }
    )


def _dimension(one: Mapping[str, Any]) -> str:
    if "choices" in one:
        return f"{one['name']} {' '.join(map(str, one['choices']))}"
    return f"{one['name']} {one['low']:g} to {one['high']:g}"


def interval(found: Interval | None, signed: bool = False) -> str:
    if found is None or found.value is None:
        return ""
    form = "+.4f" if signed else ".4f"
    ends = "" if found.low is None else f" [{found.low:{form}}, {found.high:{form}}]"
    return f"{found.value:{form}}{ends}"
