"""`adaptr list`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.cli import options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adaptr.artifacts.reports import Artifact

SUMMARY = "List what the store has."
SECTION = "Store"


@options.command("list", "adaptr list", "adaptr list --json | jq -r '.artifacts[].name'", summary=SUMMARY)
def command(output: Output) -> None:
    """The store is in `ADAPTR_HOME`, by default in the platform's folder for data. It is an OCI image layout."""
    from adaptr.artifacts import handling

    found = handling.list()
    output.tell({"artifacts": [one.as_dict() for one in found]}, _blocks(found))


def _blocks(found: Sequence[Artifact]) -> Iterator[show.Block]:
    if not found:
        yield show.Prose("the store is empty; `adaptr pull` and `adaptr tag` put artifacts in")
    said = [(one, one.annotations) for one in found]
    rows = [(one.name, one.digest[7:19], show.size(one.size), *_what(notes)) for one, notes in said]
    columns = ("name", "digest", "size", "what", "base")
    yield show.Table(columns, rows, right=frozenset({"size"}), spare=frozenset({"base"}))


def _what(notes: object) -> tuple[str, str]:
    from adaptr.registry import terms

    assert isinstance(notes, dict)
    method, rank = notes.get(terms.METHOD, ""), notes.get(terms.RANK, "")
    what = f"{method} r={rank}" if method and rank else method or notes.get(terms.KIND, "")
    return what, notes.get(terms.BASE_MODEL, "")
