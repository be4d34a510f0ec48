"""`adaptr search WORD...`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.search import Answers

SUMMARY = "Find artifacts that have all words in their name or in what is said of them."
SECTION = "Share"


@options.command(
    "search",
    "adaptr search sql",
    "adaptr search sql llama --in hf://",
    "adaptr search sql --in oci://registry.example.com/acme --json | jq -r '.found[].reference'",
    summary=SUMMARY,
)
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option(
    "--in", "where", default="", metavar="REF", help="Where: hf://, hf://org, oci://host/namespace, a layout."
)
def command(output: Output, words: tuple[str, ...], where: str) -> None:
    """Without --in the store is searched. Registries can't be searched: of those the index is, which `adaptr index
    build` publishes; on the Hub, what is tagged `peft`.
    """
    from adaptr.artifacts import search

    found = search.search(words, where)
    output.tell(found.as_dict(), _blocks(found))


def _blocks(answers: Answers) -> Iterator[show.Block]:
    from adaptr.registry import terms

    if not answers.found:
        words = " and ".join(f"`{word}`" for word in answers.words)
        yield show.Prose(f"nothing in {answers.where or 'the store'} has {words}")
        return
    columns = ("reference", "what", "base", "license")
    rows = [
        (
            one.reference,
            " r=".join(filter(None, (notes.get(terms.METHOD, ""), notes.get(terms.RANK, ""))))
            or notes.get(terms.KIND, ""),
            notes.get(terms.BASE_MODEL, ""),
            notes.get(terms.LICENSES, ""),
        )
        for one, notes in ((one, one.annotations) for one in answers.found)
    ]
    yield show.Table(columns, rows, spare=frozenset({"base"}))
