"""`adaptr methods [NAME]`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.cli.catalogue import Card

SUMMARY = "List the adapter methods, or describe one."
SECTION = "Look"
#: What is asked of every method, as columns.
CAN = ("merges", "unmerges", "delta", "in batches")
#: Columns that a narrow terminal does without.
SPARE = frozenset({"trains", "of a 7B", "unmerges", "delta", "in batches", "PEFT", "arXiv"})


@options.command(
    "methods",
    "adaptr methods",
    "adaptr methods lora",
    "adaptr methods --mergeable --family delta",
    "adaptr methods --json | jq -r '.methods[].name'",
    summary=SUMMARY,
)
@click.argument("name", required=False, shell_complete=completing.methods)
@click.option("--mergeable", is_flag=True, help="Those alone that can be merged into the base's weights.")
@click.option(
    "--family",
    metavar="NAME",
    shell_complete=completing.families,
    help="Those of one family alone, such as `delta`.",
)
def command(output: Output, name: str | None, mergeable: bool, family: str | None) -> None:
    """The table says what each method trains, what share of a Llama of 7B that is when nothing else is said, and
    whether it can be merged into the base's weights, and taken out again by computing; whether what it adds is a delta
    known without the base; whether it can be one row of a batch of many adapters; and PEFT's type of it. With NAME: its
    tensors, configuration fields with their defaults, where it goes when nothing is said, how it is trained, when
    to choose it and when not.
    """
    from adaptr.cli import catalogue

    if name is None:
        cards = catalogue.chosen(mergeable, family)
        output.tell({"methods": [c.as_dict() for c in cards]}, [_table(cards)])
    else:
        card = catalogue.card(name)
        output.tell(card.as_dict(), _described(card))


def _table(cards: list[Card]) -> show.Table:
    rows = [(c.name, c.family, _trained(c), _share(c), *_can(c), c.peft.lower(), c.formula, c.arxiv) for c in cards]
    columns = ("method", "family", "trains", "of a 7B", *CAN, "PEFT", "what it does", "arXiv")
    return show.Table(columns, rows, right=frozenset({"of a 7B"}), spare=SPARE)


def _can(card: Card) -> tuple[bool, ...]:
    return card.mergeable, card.inverse, card.delta, card.row


def _share(card: Card) -> str:
    return "" if card.share is None else show.share(card.share)


def _trained(card: Card) -> str:
    return " + ".join(card.parts.values()) or ", ".join(card.trained)


def _merges(card: Card) -> bool | str:
    if not card.mergeable:
        return f"no: {card.refusal}. Possible: {card.possible}"
    return "where each of the methods in it does" if card.conditional else True


def _described(card: Card) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "method": f"{card.name} (version {card.version} of its mathematics)",
            "title": card.title,
            "what": card.formula,
            "source": card.source,
            "family": card.family,
            "parts": card.parts,
            "goes to": card.targets,
            "works on": card.kinds,
            "merges": _merges(card),
            "unmerges": card.inverse,
            "delta": card.delta,
            "in batches": card.row,
            "trains": f"{_share(card)} of a Llama of 7B" if card.share else None,
            "PEFT": card.peft,
            "fresh": "leaves the model as it is" if card.identity else "changes the model",
            "notes": card.notes,
            "when": card.choose,
        }
    )
    params = [(name, p["axes"], p["init"], p["when"] and f"`{p['when']}`") for name, p in card.params.items()]
    yield show.Table(("tensor", "axes", "starts as", "only with"), params)
    line = f"adaptr train BASE --method {card.name} --data records.jsonl -o {card.name}.safetensors"
    yield show.Facts({"train it": line})
    fields = [(name, f["type"], str(f["default"])) for name, f in card.config.items()]
    yield show.Table(("field", "type", "default"), fields)
