"""`adaptr eval BASE [ADAPTER[=W]...] --data FILE`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import options, reading, show
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.cli.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from adaptr.evaluating.bootstrap import Interval
    from adaptr.evaluating.harness import HarnessReport
    from adaptr.evaluating.report import EvalReport

SUMMARY = "Measure a base, each adapter on it, and all of them together."
SECTION = "Run"

#: How `--task` names a task of the evaluation harness.
HARNESS = "lm-eval:"
#: The column of a second text's perplexity.
SECOND = "second text"


@options.command(
    "eval",
    "adaptr eval ./smollm2 style.safetensors --data held-out.jsonl",
    "adaptr eval ./smollm2 style.safetensors tone.safetensors=0.5 --data qa.jsonl --metric rougeL --html eval.html",
    "adaptr eval ./minilm sst2.safetensors --data dev.tsv --map text=sentence --json",
    "adaptr eval ./smollm2 style.safetensors --data held-out.jsonl --second shakespeare.txt",
    "adaptr eval ./smollm2 style.safetensors --task lm-eval:my_task --data ./tasks",
    summary=SUMMARY,
    doing="measuring",
)
@click.argument("base", type=click.Path())
@click.argument("adapters", nargs=-1, type=ADAPTER, metavar="[ADAPTER[=W]]...")
@click.option(
    "--data", type=click.Path(), metavar="FILE", help="Records to measure on; `adaptr train` says of which kinds."
)
@click.option(
    "--task",
    default="auto",
    show_default=True,
    metavar="TASK",
    help="lm, classify, ...; or lm-eval:NAME of the harness.",
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Beside the loss.  [default: the task's own]")
@click.option("--second", type=click.Path(), metavar="TEXT", help="A second text, on which forgetting is measured.")
@options.map_option
@click.option("--length", type=click.IntRange(2), metavar="N", help="Tokens of a record, at most.")
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Records of a forward."
)
@click.option(
    "--resamples",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Of the bootstrap; 0: none.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="Of the intervals.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Records of a task of lm-eval, at most.")
@click.option("--dtype", type=click.Choice(("auto", "fp32", "bf16", "fp16")), default="auto", show_default=True)
@click.option("--html", type=click.Path(), metavar="FILE", help="Also write a page with pictures.")
@click.option("--force", is_flag=True, help="Replace what is at FILE.")
@options.any_base_option
@reading.options("adapters")
def command(
    output: Output,
    base: str,
    adapters: tuple[Weighted, ...],
    data: str | None,
    html: str | None,
    force: bool,
    limit: int | None,
    **given: Any,
) -> None:
    """BASE is a folder with a transformers model. It is loaded once; adapters are attached to it, each at its weight,
    and taken off again. Every figure comes with an interval by bootstrap over the records, and with what it is above
    the base's on the same records.
    """
    if given["task"].startswith(HARNESS):
        _harness(output, base, adapters, data, limit, html, given)
        return
    if data is None:
        raise click.UsageError("there is no data to measure on; give --data FILE")
    if limit is not None:
        raise click.UsageError("--limit is for tasks of lm-eval; give fewer records instead")
    import adaptr

    if html is not None:
        from adaptr.cli import eval_page
        from adaptr.cli import html as pages

        pages.require(html, force, base, data, given["second"], *(str(one.source) for one in adapters))
    given["metrics"] = given["metrics"] or None
    given["length"] = given["length"] or 0
    with bar(output, "measuring", steps=True) as progress:
        report = adaptr.evaluate(base, adapters, data, progress=progress, **given)
    if html is not None:
        pages.write(eval_page.page(report), Path(html), force)
    output.tell(report.as_dict(), _blocks(report, html))


command.sections = options.sections(
    {
        "Data": "data task columns length batch limit second",
        "Figures": "metrics resamples confidence seed",
        "Page": "html force",
    }
)


def _harness(
    output: Output,
    base: str,
    adapters: tuple[Weighted, ...],
    data: str | None,
    limit: int | None,
    html: str | None,
    given: dict[str, Any],
) -> None:
    """A task of the harness, which reads its own data and has its own metrics."""
    beside = [f"--{name}" for name in ("second", "columns", "metrics", "length") if given[name]]
    beside += ["--html"] if html is not None else []
    if beside:
        raise click.UsageError(f"a task of lm-eval says itself how it is measured: leave out {beside[0]}")
    from adaptr.evaluating.harness import harness

    name, dtype = given["task"].removeprefix(HARNESS), given["dtype"]
    options_ = {"batch": given["batch"], "limit": limit, "dtype": dtype, "any_base": given["any_base"]}
    report = harness(base, adapters, name, None if data is None else Path(data), **options_)
    output.tell(report.as_dict(), _harnessed(report))


def _harnessed(report: HarnessReport) -> Iterator[show.Block]:
    names = list(dict.fromkeys(name for row in report.rows for name in row.values))
    rows = [
        (row.name, *(_with_error(row.values.get(name), row.errors.get(name)) for name in names)) for row in report.rows
    ]
    yield show.Table(("lm-eval " + report.task, *names), rows, right=frozenset(names))
    yield show.Facts({"lm-eval": report.version, "note": report.notes})


def _with_error(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _blocks(report: EvalReport, html: str | None) -> Iterator[show.Block]:
    columns = [*report.metrics, *([SECOND] if report.second else [])]
    right = frozenset(columns)
    rows = [(row.name, *map(_interval, _cells(row.values, row.second, columns))) for row in report.rows]
    yield show.Table(("", *columns), rows, right=right)
    gained = [row for row in report.rows if row.gain]
    above = [(row.name, *map(_gain, _cells(row.gain, row.forgotten, columns))) for row in gained]
    yield show.Table(("above the base", *columns), above, right=right)
    yield show.Facts(
        {
            "task": f"{report.task}, {report.records} records, {report.architecture} in {report.dtype}",
            "cut": f"{report.cut} records were longer than {report.length} tokens: {report.tokens} tokens were left out"
            if report.cut
            else "",
            "intervals": f"{show.share(report.confidence)} by {report.resamples} resamples, seed {report.seed}; "
            "* where the base is outside"
            if report.resamples
            else "none",
            "note": report.notes,
            "page": html,
            "time": f"{report.seconds:.1f} s",
        }
    )


def _cells(own: Mapping[str, Interval], second: Interval | None, columns: Sequence[str]) -> list[Interval]:
    found = own if second is None else {**own, SECOND: second}
    return [found[name] for name in columns]


def _interval(found: Interval) -> str:
    if found.value is None:
        return "none"
    return f"{found.value:.4g}" + ("" if found.low is None else f" [{found.low:.4g}, {found.high:.4g}]")


def _gain(found: Interval) -> str:
    if found.value is None:
        return "none"
    between = "" if found.low is None else f" [{found.low:+.3g}, {found.high:+.3g}]"
    return f"{found.value:+.3g}{between}{' *' if found.sure else ''}"
