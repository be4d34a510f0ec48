"""`adaptr apply BASE [ADAPTER[=W]...]`"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import options, reading, show
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.cli.streamed import Streamed
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.runtime.apply import ApplyReport

SUMMARY = "Run a base model with adapters on a prompt."
SECTION = "Run"


@options.command(
    "apply",
    "adaptr apply ./smollm2 style.safetensors --prompt 'The capital of France is'",
    "adaptr apply ./smollm2 style.safetensors=0.5 peft-folder/ --prompt Hello --temperature 0.8 --seed 1",
    "adaptr apply ./llama style.safetensors --drop 0-4 --prompt Hello",
    "adaptr apply ./distilbert emotion/ --task classify --file sentences.txt --json",
    summary=SUMMARY,
    doing="loading",
)
@click.argument("base", type=click.Path())
@click.argument("adapters", nargs=-1, type=ADAPTER, metavar="[ADAPTER[=W]]...")
@click.option("-p", "--prompt", multiple=True, metavar="TEXT", help="What to ask. May be given several times.")
@click.option(
    "--file", type=click.File(encoding="utf-8"), metavar="F", help="A prompt in each line; - is standard input."
)
@click.option("--task", type=click.Choice(("auto", "generate", "classify")), default="auto", show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True, metavar="N")
@click.option("--greedy", is_flag=True, help="Always the likeliest token; so it is without --temperature.")
@click.option("--temperature", type=click.FloatRange(0, min_open=True), metavar="T", help="Draw tokens, at this heat.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the drawing.")
@click.option("--dtype", type=click.Choice(("auto", "fp32", "bf16", "fp16")), default="auto", show_default=True)
@options.drop_option
@options.any_base_option
@reading.options("adapters")
def command(output: Output, base: str, adapters: tuple[Weighted, ...], **given: Any) -> None:
    """BASE is a folder with a transformers model. Adapters are attached in their order, each at its weight, and the
    model generates text or names a class. Without adapters it is the base that answers.
    """
    if given["greedy"] and given["temperature"]:
        raise UsageError("--greedy and --temperature exclude each other", hint="leave one out")
    prompts = _prompts(given["prompt"], given["file"])
    from adaptr.runtime import apply

    streamed = Streamed(output) if len(prompts) == 1 and not (output.json or output.quiet) else None
    report = apply.apply(
        base,
        adapters,
        prompts,
        task=given["task"],
        max_new_tokens=given["max_new_tokens"],
        temperature=given["temperature"] or 0.0,
        seed=given["seed"],
        dtype=given["dtype"],
        any_base=given["any_base"],
        drop=given["drop"],
        told=streamed,
    )
    if streamed is not None and streamed.begun:
        streamed.end()
    else:
        output.tell(report.as_dict(), _blocks(report))


command.sections = options.sections(
    {
        "Prompts": "prompt file task",
        "Answers": "max_new_tokens greedy temperature seed dtype",
    }
)


def _prompts(said: tuple[str, ...], file: Iterable[str] | None) -> list[str]:
    lines = [line.rstrip("\r\n") for line in file] if file else []
    prompts = [*said, *(line for line in lines if line.strip())]
    if not prompts:
        raise UsageError("there is no prompt", hint="give --prompt TEXT or --file F")
    return prompts


def _blocks(report: ApplyReport) -> Iterator[show.Block]:
    if report.task == "classify":
        rows = [(a.text, max(a.scores.values()), a.prompt) for a in report.answers]
        yield show.Table(("label", "score", "text"), rows, right=frozenset({"score"}))
        return
    for answer in report.answers:
        yield answer.text.strip() if len(report.answers) == 1 else f"> {answer.prompt}\n{answer.text.strip()}\n"
