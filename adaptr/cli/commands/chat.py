"""`adaptr chat BASE [ADAPTER[=W]...]`"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from adaptr.cli import options, reading
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.cli.streamed import Streamed
from adaptr.errors import AdaptrError, UsageError, phrases

if TYPE_CHECKING:
    from adaptr.runtime.chat import Chat

SUMMARY = "Talk with a model, and switch its adapters between turns."
SECTION = "Run"
HELP = """/with NAME[=W]...  these adapters answer from now on, and no others
/base              the base answers alone
/adapters          which there are, and at which weights
/system TEXT       what the model is told before all else
/reset             forget what was said
/quit              the end, as Ctrl-D; Ctrl-C ends an answer alone"""


@options.command(
    "chat",
    "adaptr chat ./smollm2 style.safetensors",
    "adaptr chat ./smollm2 style.safetensors=0.5 tone.safetensors --system 'Be brief.' --temperature 0.8",
    summary=SUMMARY,
    doing="loading",
)
@click.argument("base", type=click.Path())
@click.argument("adapters", nargs=-1, type=ADAPTER, metavar="[ADAPTER[=W]]...")
@click.option("--system", default="", metavar="TEXT", help="What the model is told before all else.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True, metavar="N")
@click.option("--temperature", type=click.FloatRange(0), default=0.0, metavar="T", help="Draw tokens, at this heat.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the drawing.")
@click.option("--dtype", type=click.Choice(("auto", "fp32", "bf16", "fp16")), default="auto", show_default=True)
@options.any_base_option
@reading.options("adapters")
def command(
    output: Output,
    base: str,
    adapters: tuple[Weighted, ...],
    system: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    dtype: str,
    any_base: bool,
) -> None:
    """Each line is said to the model, with all that was said before, in its tokenizer's template, and its answer is
    shown while it comes. Adapters are called as their files are: `/with style=0.5` in the middle of a talk has that one
    answer at half its strength; `/help` lists the other words.
    """
    import adaptr

    with adaptr.chat(
        base,
        adapters,
        dtype=dtype,
        any_base=any_base,
        system=system,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    ) as talk:
        output.passing.clear()
        shown = Streamed(output) if not (output.json or output.quiet) else None
        if shown is not None and sys.stdin.isatty():
            click.echo(f"adapters: {', '.join(talk.adapters) or 'none'}; /help says what else can be typed", err=True)
        for line in _lines():
            try:
                if line.startswith("/"):
                    if _obeyed(talk, line, output) is None:
                        break
                else:
                    _answered(talk, line, shown)
            except AdaptrError as error:
                output.complain(str(error))
        output.tell({"turns": talk.turns, "adapters": {name: talk.adapters[name] for name in talk.adapters}}, [])


def _lines() -> Iterator[str]:
    """What is typed, until it ends."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answered(talk: Chat, line: str, shown: Streamed | None) -> None:
    try:
        talk.say(line, shown)
    except KeyboardInterrupt:
        click.echo(" (interrupted)", err=True)
    finally:
        if shown is not None:
            shown.end()


def _obeyed(talk: Chat, line: str, output: Output) -> bool | None:
    """Do what a line with a stroke says; None for the end."""
    from adaptr.runtime.chat import weighed

    word, _, rest = line[1:].partition(" ")
    if word in {"quit", "exit", "bye"}:
        return None
    ways: Mapping[str, Callable[[], object]] = {
        "with": lambda: talk.only(weighed(rest.split())),
        "base": lambda: talk.only({}),
        "adapters": lambda: output.warn(_adapters(talk)),
        "system": lambda: talk.system(rest.strip()),
        "reset": talk.reset,
        "help": lambda: click.echo(HELP, err=True),
    }
    if word not in ways:
        raise phrases.unknown(UsageError, "there is no", f"/{word}", [f"/{way}" for way in (*ways, "quit")])
    ways[word]()
    return True


def _adapters(talk: Chat) -> str:
    on = talk.adapters.active
    said = [f"{name}={talk.adapters[name]:g}{'' if name in on else ' (off)'}" for name in talk.adapters]
    return ", ".join(said) or "there are no adapters"
