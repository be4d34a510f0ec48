"""`adaptr diff A B [--base BASE] [--html FILE]`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.fields import rows
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.diffing.report import DiffReport, TargetDiff

SUMMARY = "Say how two adapters differ, and what composing them would do."
SECTION = "Look"

#: How many targets and fields the text shows unless asked for all.
SHOWN = 20
#: Letters of the longest bar.
WIDTH = 16


@options.command(
    "diff",
    "adaptr diff style.safetensors tone.safetensors",
    "adaptr diff style.safetensors ./peft-folder --html diff.html",
    "adaptr diff lora.safetensors ./llama-tuned --base ./llama --intruders 10",
    "adaptr diff ./llama ./llama-tuned --json | jq .interference",
    "adaptr diff old.safetensors new.safetensors --header",
    summary=SUMMARY,
    doing="comparing",
)
@click.argument("a", type=click.Path(), shell_complete=completing.artifacts)
@click.argument("b", type=click.Path(), shell_complete=completing.artifacts)
@click.option("--base", type=click.Path(), metavar="BASE", help="The checkpoint that both sides change.")
@click.option("--header", is_flag=True, help="Compare what adapters say of themselves, not their weights.")
@click.option("--all", "everything", is_flag=True, help="Show every target and every field.")
@click.option("--html", type=click.Path(), metavar="FILE", help="Also write a page with pictures and all figures.")
@click.option("--force", is_flag=True, help="Replace what is at FILE.")
@click.option(
    "--intruders",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Look for intruders among N leading vectors of W + D; takes seconds a target.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the rows that are sampled for signs.")
@reading.options("a", "b")
def command(output: Output, a: str, b: str, html: str | None, force: bool, everything: bool, **given: Any) -> int:
    """A and B are adapters in any known format, or checkpoints: a checkpoint counts as its change to BASE (to A, if
    both are checkpoints and there is no BASE). Exit code 0 if they are equal, 1 if they differ.
    """
    import adaptr

    if html is not None and given["header"]:
        raise UsageError("--html shows weights, which --header does not read", hint="leave one out")
    if html is not None:
        from adaptr.cli import html as pages
        from adaptr.cli import page

        pages.require(html, force, a, b, given["base"])
    with bar(output, "comparing") as progress:
        report = adaptr.diff(a, b, progress=progress, **given)
    if html is not None:
        page.write(report, Path(html), force)
    output.tell(report.as_dict(), _blocks(report, everything, html))
    return 0 if report.equal else 1


def _blocks(report: DiffReport, everything: bool, html: str | None) -> Iterator[show.Block]:
    most = None if everything else SHOWN
    yield show.Facts(
        {
            "verdict": report.verdict,
            "a": report.a,
            "b": report.b,
            "targets": ", ".join(f"{n} {state}" for state, n in sorted(report.counts.items())),
            "signs": f"from {report.rows} rows a target, seed {report.seed}" if report.interference else "",
            "note": report.notes,
            "page": html,
        }
    )
    if report.interference is not None and not report.equal:
        yield show.Prose("\n".join(report.interference.words))
    fields = rows(report.header, everything)
    yield show.Table(("header", "a", "b"), fields[:most])
    yield from _more(len(fields), most, "fields")
    changed = sorted((t for t in report.targets if t.state != "same"), key=lambda t: -t.difference)
    yield _table(changed[:most])
    yield from _more(len(changed), most, "targets")
    others = [(o.path, o.what, o.state, o.difference) for o in report.others]
    beside = "beside the weights" if report.targets else "held"
    yield show.Table((beside, "what", "state", "|a - b|"), others[:most], right=frozenset({"|a - b|"}))
    yield from _more(len(others), most, "tensors")


def _more(number: int, most: int | None, what: str) -> Iterator[str]:
    if most is not None and number > most:
        yield f"... and {number - most} more {what}; --all shows them"


def _table(targets: list[TargetDiff]) -> show.Table:
    largest = max((t.norm_a + t.norm_b for t in targets), default=1.0) or 1.0
    columns = {"target": [t.path for t in targets]}
    if any(t.state != "changed" for t in targets):
        columns["state"] = [t.state for t in targets]
    figures: dict[str, list[Any]] = {
        "|a|": [t.norm_a for t in targets],
        "|b|": [t.norm_b for t in targets],
        "cosine": [None if t.cosine is None else f"{t.cosine:+.3f}" for t in targets],
        "b on a": [_percent(t.on_a) for t in targets],
        "a on b": [_percent(t.on_b) for t in targets],
        "signs": [_percent(t.conflicts) for t in targets],
        "intruders a": [t.intruders_a for t in targets],
        "intruders b": [t.intruders_b for t in targets],
    }
    figures = {name: values for name, values in figures.items() if any(value is not None for value in values)}
    columns |= figures | {"a - b +": [_bar(t, largest) for t in targets]}
    spare = frozenset({"state", "b on a", "a on b", "signs"})
    return show.Table(list(columns), list(zip(*columns.values(), strict=True)), right=frozenset(figures), spare=spare)


def _bar(target: TargetDiff, largest: float) -> str:
    """`----+++++`: the size of a, and that of b."""
    minus, plus = (round(WIDTH * size / largest) for size in (target.norm_a, target.norm_b))
    return "-" * max(minus, target.norm_a > 0) + "+" * max(plus, target.norm_b > 0)


def _percent(part: float | None) -> str | None:
    return None if part is None else f"{100 * part:.0f}%"
