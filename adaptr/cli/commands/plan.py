"""`adaptr plan BASE --method NAME...`"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from adaptr.planning.advice import Advice
    from adaptr.planning.plan import Plan, Way

SUMMARY = "Say what methods would cost on a base, and which to take."
SECTION = "Look"


@options.command(
    "plan",
    "adaptr plan ./base --method lora --method dora --set r=16",
    "adaptr plan config.json --batch 4 --length 1024",
    "adaptr plan ./base --memory 12GB --no-latency --swappable --task classification --examples 500",
    summary=SUMMARY,
    doing="planning",
)
@click.argument("base", type=click.Path())
@click.option(
    "-m",
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    shell_complete=completing.methods,
    help="A method; all of them if none is named.",
)
@click.option("--set", "pairs", multiple=True, metavar="FIELD=VALUE", help="A field of the methods named.")
@click.option(
    "--targets", multiple=True, metavar="WHERE", help="Roles or patterns of layers; each method's own if none."
)
@click.option("--also", multiple=True, metavar="WHAT", help="Trained whole beside it: head, norm, embed, or paths.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Texts of one forward.")
@click.option("--length", type=click.IntRange(2), default=512, show_default=True, help="Tokens of a text.")
@click.option(
    "--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="bf16", show_default=True, help="Of the forward."
)
@click.option("--checkpointing", is_flag=True, help="Compute activations twice instead of keeping them.")
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "adafactor", "sgd", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]),
    default="adamw",
    show_default=True,
    help="What takes the steps.",
)
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="Where it is trained."
)
@click.option(
    "--task", default="lm", show_default=True, help="What is learned, as `adaptr train` calls it, or classification ..."
)
@click.option("--memory", metavar="SIZE", help="Only what fits: 12GB, or the name of a card.")
@click.option("--no-latency", is_flag=True, help="Only what merges into the base's weights.")
@click.option("--swappable", is_flag=True, help="Only what can be another one for each row of a batch.")
@click.option("--examples", type=click.IntRange(1), help="How many examples there are to learn from.")
@click.option("--cards", is_flag=True, help="Show the largest batch on every card.")
def command(output: Output, base: str, pairs: tuple[str, ...], cards: bool, **said: Any) -> None:
    """BASE is a folder, a reference, or a `config.json` itself; no weights are read or needed.

    Memory is that of one card: weights, gradients, the optimiser's states, what the forward leaves for the backward,
    logits. With --memory, --no-latency, --swappable or --examples methods are ranked, each with its reasons and a
    command to go on with.
    """
    import adaptr

    asked = {**said, "targets": list(said["targets"]) or None, "config": options.fields(pairs)}
    if asked["config"] and not said["methods"]:
        raise click.UsageError("--set is for methods that are named: add --method NAME")
    found = adaptr.plan(base, **asked)
    output.tell(found.as_dict(), _blocks(found, cards))


command.sections = options.sections(
    {
        "Training": "methods pairs targets also task batch length dtype checkpointing optimizer examples",
        "Machine": "device memory cards",
        "Wishes": "no_latency swappable",
    }
)


def _blocks(found: Plan, cards: bool) -> Iterator[show.Block]:
    setting = found.ways[0].estimate.setting
    yield show.Facts(
        {
            "base": f"{found.base} ({found.architecture})",
            "parameters": show.number(found.parameters),
            "batch": f"{setting.batch} x {setting.length} tokens, {setting.dtype}, {setting.optimizer}",
        }
    )
    if found.advice:
        yield from _advice(found.advice)
    yield _counts(found)
    yield _memory(found)
    yield _cards(found) if cards else _fits(found)
    yield from found.notes
    if found.left:
        yield show.Facts({"not on this base alone": list(found.left)})


def _counts(found: Plan) -> show.Table:
    once = {way.estimate.method: way.estimate for way in found.ways}.values()
    rows = [
        (
            one.method,
            show.number(one.trained),
            f"{100 * one.share:.3g} %",
            show.number(one.changed),
            show.size(one.stored["fp32"]),
            show.size(one.stored["bf16"]),
            "yes" if one.overhead.mergeable else "no",
            "yes" if one.overhead.swappable else "no",
            _work(one.overhead),
        )
        for one in once
    ]
    columns = ("method", "trained", "of base", "changed", "fp32", "16-bit", "merges", "swaps", "work a token")
    right = frozenset({"trained", "of base", "changed", "fp32", "16-bit"})
    return show.Table(columns, rows, "counts", right, frozenset({"changed", "16-bit", "swaps"}))


def _work(overhead: Any) -> str:
    share = f"+{100 * overhead.share:.2g} %" if overhead.share else "+0 %"
    return f"{share}, {overhead.context} more" if overhead.context else share


def _memory(found: Plan) -> show.Table:
    rows = []
    for way in found.ways:
        one = way.estimate.memory
        parts = (one.weights, one.adapter + one.gradients, one.optimizer, one.activations, one.logits)
        rows.append((way.estimate.method, way.held, *map(_gib, parts), _gib(one.peak)))
    columns = ("method", "base", "weights", "trained", "states", "activations", "logits", "peak")
    return show.Table(columns, rows, "memory of training, GiB", frozenset(columns[2:]), frozenset({"states", "logits"}))


def _gib(count: int) -> str:
    """Of memory, as cards are sold; with as many digits as a card has any use for."""
    return f"{count / 2**30:.2f}"


def _fits(found: Plan) -> show.Table:
    """The largest batch, on one card of each size."""
    sizes = {fit.memory: fit.card for fit in reversed(found.ways[0].fits) if not fit.card.startswith("Apple")}
    return _batches(found, [sizes[size] for size in sorted(sizes)], "largest batch by memory of the card", True)


def _cards(found: Plan) -> show.Table:
    names = [fit.card for fit in found.ways[0].fits]
    rows = [(name, *(_batch(way, name) for way in found.ways)) for name in names]
    columns = ("card", *(f"{way.estimate.method} {way.held}" for way in found.ways))
    return show.Table(columns, rows, "largest batch", frozenset(columns[1:]))


def _batches(found: Plan, names: list[str], title: str, short: bool) -> show.Table:
    memory = {fit.card: fit.memory // 2**30 for fit in found.ways[0].fits}
    rows = [(way.estimate.method, way.held, *(_batch(way, name) for name in names)) for way in found.ways]
    columns = ("method", "base", *(f"{memory[name]} GB" for name in names))
    return show.Table(columns, rows, title, frozenset(columns[2:]), frozenset({"32 GB", "141 GB", "192 GB"}))


def _batch(way: Way, card: str) -> str:
    found = next(fit.batch for fit in way.fits if fit.card == card)
    return str(found) if found else "-"


def _advice(advice: tuple[Advice, ...]) -> Iterator[show.Block]:
    fits = [one for one in advice if one.fits]
    rows = [(number, one.method, one.held, one.batch, "; ".join(one.reasons)) for number, one in enumerate(fits, 1)]
    yield show.Table(("", "method", "base", "batch", "why"), rows, "what fits, best first", frozenset({"batch"}))
    yield show.Table(
        ("method", "why not"), [(one.method, "; ".join(one.reasons)) for one in advice if not one.fits], "what doesn't"
    )
    yield f"Go on with:\n  {fits[0].line}" if fits else "Nothing fits: ask for less, or take a smaller base."
