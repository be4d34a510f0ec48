"""`adaptr methods [NAME]`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.cli.catalogue import Card

SUMMARY = "List the adapter methods, or describe one."
SECTION = "Look"


@options.command(
    "methods",
    "adaptr methods",
    "adaptr methods lora",
    "adaptr methods --json | jq -r '.methods[].name'",
    summary=SUMMARY,
)
@click.argument("name", required=False)
def command(output: Output, name: str | None) -> None:
    """The table says what each method trains and whether it can be merged into the base's weights. With NAME: its
    tensors, configuration fields with their defaults, and where it goes when nothing is said.
    """
    from adaptr.cli import catalogue

    if name is None:
        cards = catalogue.cards()
        output.tell({"methods": [c.as_dict() for c in cards]}, [_table(cards)])
    else:
        card = catalogue.card(name)
        output.tell(card.as_dict(), _described(card))


def _table(cards: list[Card]) -> show.Table:
    rows = [(c.name, c.family, _trained(c), c.mergeable, c.formula, c.arxiv) for c in cards]
    columns = ("method", "family", "trains", "merges", "what it does", "arXiv")
    return show.Table(columns, rows, spare=frozenset({"trains", "arXiv"}))


def _trained(card: Card) -> str:
    return " + ".join(card.parts.values()) or ", ".join(card.trained)


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
            "merges": card.mergeable or f"no: {card.refusal}. Possible: {card.possible}",
            "fresh": "leaves the model as it is" if card.identity else "changes the model",
            "notes": card.notes,
        }
    )
    params = [(name, p["axes"], p["init"], p["when"] and f"`{p['when']}`") for name, p in card.params.items()]
    yield show.Table(("tensor", "axes", "starts as", "only with"), params)
    fields = [(name, f["type"], str(f["default"])) for name, f in card.config.items()]
    yield show.Table(("field", "type", "default"), fields)
