"""`adaptr train BASE --data FILE -o OUT`, `adaptr train RECIPE.yaml -o OUT`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import html, options, recipe_options, show, train_page
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.training.report import TrainingReport

SUMMARY = "Train an adapter on data of your own."
SECTION = "Change"


@options.command(
    "train",
    "adaptr train ./smollm2 --data answers.jsonl -o answers.safetensors",
    "adaptr train ./smollm2 --data qa.csv --map prompt=question --map completion=answer --valid 5% -o qa.safetensors",
    "adaptr train ./smollm2 --method dora --set r=16 --targets attn.v --data chat.jsonl --epochs 3 -o chat.safetensors",
    "adaptr train ./smollm2 --data answers.jsonl --valid 10% -o answers.safetensors --report answers.html",
    "adaptr train recipe.yaml -o answers.safetensors --resume",
    "adaptr train ./smollm2 --data answers.jsonl --dry-run",
    summary=SUMMARY,
    doing="loading",
)
@click.argument("base", required=False, type=click.Path(), metavar="BASE|RECIPE.yaml")
@recipe_options.declared
@click.option("-o", "--out", type=click.Path(), metavar="OUT", help="The adapter to write.")
@click.option("--force", is_flag=True, help="Replace what is at OUT, and begin anew where a training did not end.")
@click.option("--resume", is_flag=True, help="Go on with a training of OUT that did not end.")
@click.option("--report", type=click.Path(), metavar="PAGE", help="Also write a page with pictures.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a recipe, and stop.")
def command(
    output: Output,
    base: str | None,
    out: str | None,
    report: str | None,
    schema: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Records are prompt and completion, chat messages, texts, or what another task wants; the loss is of the answers
    alone. Base and adapter are measured before and after. A recipe is a YAML file with the same fields.

    While it trains, checkpoints are kept in `OUT.run/`. An interrupt ends the step at hand and keeps it; `--resume`
    goes on to the same bytes.
    """
    if schema:
        from adaptr.training.schema import schema as made

        output.emit(made())
        return
    if base is None:
        raise click.UsageError("there is no BASE: a model's folder or reference, or a recipe's file")
    control = {name: given.pop(name) for name in ("force", "resume")}
    fields = recipe_options.fields(given)
    data = fields.pop("data", None)
    if dry_run:
        from adaptr.training.fit import planned

        output.tell((plan := planned(base, data, out, **fields)).as_dict(), recipe_options.about(plan))
        return
    if out is None:
        raise click.UsageError("there is no output: say where the adapter goes with `-o OUT`")
    from adaptr.cli.training import shown
    from adaptr.training import processes
    from adaptr.training.fit import fit

    if not processes.is_main():  # one of them speaks
        output.quiet, output.json, report = True, False, None
    if report is not None:
        html.require(report, control["force"], base, data)
    with shown(output) as watcher:
        found = fit(base, data, out, watcher=watcher, **control, **fields)
    if report is not None:
        html.write(train_page.page(found), Path(report), control["force"])
    output.tell(found.as_dict(), _blocks(found, report))


command.sections = recipe_options.SECTIONS


def _blocks(report: TrainingReport, page: str | None) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "trained": report.out,
            "method": f"{report.method}, {report.parameters:,} parameters learned at {report.targets} targets",
            "task": report.task,
            "steps": f"{report.steps:,}, {report.tokens:,} tokens",
            "written": show.size(report.bytes),
            "time": f"{report.seconds:.1f} s",
            "digest": report.digest,
            "again": report.command,
            "page": page,
        }
    )
    of = "validation data" if report.held_out else "data learned from"
    yield _compared(f"{report.measured_on} records of the {of}", report.before, report.after)
    yield _compared("second text", report.second_before, report.second_after)


def _compared(title: str, before: Any, after: Any) -> show.Table:
    rows = [(name, _figure(value), _figure(after.get(name))) for name, value in before.items()]
    return show.Table((title, "base", "adapter"), rows, right=frozenset({"base", "adapter"}))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
