"""docs/compatibility.md out of the table."""

from __future__ import annotations

from collections.abc import Iterable

from methods_table import table
from methods_table.table import COLUMNS, Verdict

HEAD = """\
# What works with which method

No cell is a claim: `make methods` tried each, on a Llama of two layers with an adapter of the method's small
configuration, and kept [what came of it](methods_table/table.jsonl). `yes` is what the column says; a number is why
not, below. That each method keeps the laws of the contract (merged is attached, detached leaves no trace, saved is the
same bytes, and so on) is held by `adaptr.testing.Laws` in every run of the tests.

"""


def page() -> str:
    found = table.load()
    methods = sorted({one.method for one in found})
    cells = {(one.method, one.what): one for one in found}
    reasons: dict[str, int] = {}
    rows = [
        [f"[`{name}`](methods.md#{name})", *(_cell(cells.get((name, what)), reasons) for what in COLUMNS)]
        for name in methods
    ]
    said = "".join(f"- {what}: {words}\n" for what, words in COLUMNS.items())
    listed = "".join(f"{number}. {why}\n" for why, number in reasons.items())
    return f"{HEAD}{said}\n{_table(['method', *COLUMNS], rows)}\n## Why not\n\n{listed}"


def _cell(one: Verdict | None, reasons: dict[str, int]) -> str:
    if one is None:
        return ""
    if one.verdict == "yes":
        return f"yes ({one.why})" if one.why else "yes"
    return f"{reasons.setdefault(_plain(one), len(reasons) + 1)}" if one.verdict == "no" else one.verdict


def _plain(one: Verdict) -> str:
    """The reason without the names that this trial had."""
    said = one.why
    for name in (f"`{one.method}` of `{one.method}-1`", f"`{one.method}-1`", f"`{one.method}`", "`one`", "`two`"):
        said = said.replace(name, "`…`")
    return said


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = [*columns]
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
