"""`adaptr gate train BASE --experts A... --data F -o OUT`, `adaptr gate show GATE BASE --prompt P`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptr import plugins
from adaptr.cli import completing, options, show
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.contract.capabilities import GATE
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.runtime.learn import LearnReport
    from adaptr.runtime.scalings import Scalings

SUMMARY = "Train a gate over adapters, or show what one does."
SECTION = "Run"


@options.command(
    "train",
    "adaptr gate train ./smollm2 --experts law.safetensors code/ art/ --data mixed.jsonl -o gate.safetensors",
    "adaptr gate train ./smollm2 law/ code/ --data qa.tsv --method lora-soups --steps 200 -o soup.safetensors",
    "adaptr gate train ./smollm2 law/ code/ --data texts.txt --set depth=2 --set top_k=1 -o gate.safetensors",
)
@click.argument("base", type=click.Path())
@click.argument("more", nargs=-1, type=click.Path(), metavar="EXPERT...", shell_complete=completing.artifacts)
@click.option("--experts", multiple=True, type=click.Path(), metavar="EXPERT...", help="The adapters to be weighed.")
@click.option(
    "--data", required=True, type=click.Path(), metavar="FILE", help=".tsv, .txt or .jsonl: an example a line."
)
@options.output_option("The gate to write, with its experts.")
@click.option(
    "--method",
    shell_complete=completing.methods,
    default=plugins.default(GATE),
    show_default=True,
    metavar="METHOD",
    help="A gate that learns.",
)
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="A field of the method's configuration.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, metavar="N")
@click.option(
    "--batch", "size", type=click.IntRange(1), default=4, show_default=True, metavar="N", help="Examples a step."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="R", help="[default: the method's own]")
@click.option(
    "--held-out", type=click.FloatRange(0, 1), default=0.1, show_default=True, metavar="SHARE", help="Not learnt from."
)
@click.option("--seed", type=int, default=0, show_default=True)
@options.any_base_option
def train(output: Output, base: str, more: tuple[str, ...], experts: tuple[str, ...], **given: Any) -> None:
    """Train a gate over adapters and measure it.

    It is measured on examples that were held out.

    The experts are adapters of any delta method and stay as they are. X-LoRA learns weights for each token and layer,
    LoRA Soups one for each layer, which `adaptr merge` and `adaptr convert --method lora` make a plain adapter of. An
    example is a question, a tab and an answer (.tsv), a text (.txt), or {"prompt", "completion"} or {"text"} (.jsonl).
    """
    from adaptr.runtime.learn import learn

    if len((*experts, *more)) < 2:
        found = "one expert" if (*experts, *more) else "no expert"
        raise UsageError(f"there is {found}, and a gate weighs several", hint="name adapters behind --experts")
    config = options.fields(given.pop("fields"))
    with bar(output, "training", steps=True) as progress:
        report = learn(base, [*experts, *more], progress=progress, config=config, **given)
    output.tell(report.as_dict(), _learnt(report))


@options.command(
    "show",
    "adaptr gate show gate.safetensors ./smollm2 --prompt 'The plaintiff sorts the list'",
    "adaptr gate show gate.safetensors ./smollm2 --prompt 'The plaintiff sorts the list' --html gate.html",
)
@click.argument("gate", type=click.Path(), shell_complete=completing.artifacts)
@click.argument("base", type=click.Path())
@click.option("-p", "--prompt", required=True, metavar="TEXT", help="The text to be weighed for.")
@click.option("--html", "page", type=click.Path(), metavar="FILE", help="Also write a page with pictures.")
@click.option("--force", is_flag=True, help="Replace what is at FILE.")
@options.any_base_option
def show_(output: Output, gate: str, base: str, prompt: str, page: str | None, force: bool, any_base: bool) -> None:
    """Show the weights that a gate gives.

    One for each expert, token and layer of a text.
    """
    from adaptr.runtime.scalings import scalings

    if page is not None:
        from adaptr.cli import gate_page, html

        html.require(page, force, gate, base)
    found = scalings(gate, base, prompt, any_base)
    if page is not None:
        html.write(gate_page.page(found), Path(page), force)
    output.tell(found.as_dict(), _shown(found, page))


command = options.group("gate", train, show_, help=SUMMARY)


def _learnt(report: LearnReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "trained": report.out,
            "method": f"{report.method}, {report.parameters:,} parameters learn",
            "experts": list(report.experts),
            "examples": f"{report.examples}, and {report.held_out} held out",
            "steps": report.steps,
            "written": show.size(report.bytes),
            "time": f"{report.seconds:.1f} s",
            "digest": report.digest,
        }
    )
    rows = [(name, f"{loss:.3f}") for name, loss in report.losses.items()]
    yield show.Table(("held out", "loss"), rows, right=frozenset({"loss"}))


def _shown(found: Scalings, page: str | None) -> Iterator[show.Block]:
    yield f"{found.method}, {len(found.experts)} experts at {len(found.sites)} places; means over the places:"
    rows = [
        (json.dumps(t, ensure_ascii=False), *map(_number, w))
        for t, w in zip(found.tokens, found.over_sites(), strict=True)
    ]
    yield show.Table(("token", *found.experts), rows, right=frozenset(found.experts))
    if page is not None:
        yield f"page {page}"


def _number(weight: float) -> str:
    return f"{weight:.3f}"
