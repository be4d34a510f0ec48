"""docs/models.md out of the table."""

from __future__ import annotations

import re

from methods_table import table
from methods_table.table import Verdict
from models_table.table import FILE, METHODS, MODELS
from pages import markdown

HEAD = """\
# What works on which model

Methods find their places by what these are for (`attn.q`, `ffn_out`, `attention` ...), not by the name of a model. No
cell is a claim: `make models` tried each, on a tiny model of the kind with random weights and an adapter of the
method's small configuration, where it goes when nothing is said, and kept [what came of
it](models_table/table.jsonl). `yes` is all of this:

- attached it changes what comes out, and detached it leaves no trace;
- a padded row is what it is alone, where that is so of the bare model;
- it generates the same tokens with a cache and without, where the model generates;
- gradients come to all of its places.

A number is why not, below. Where a model has no such place at all the error names those that it has.

"""


def page() -> str:
    cells = {(one.what, one.method): one for one in table.load(FILE)}
    reasons: dict[str, int] = {}
    rows = [
        [called, *(_cell(cells.get((name, method)), reasons) for method in METHODS)] for name, called in MODELS.items()
    ]
    said = "".join(f"- [`{method}`](methods.md#{method}): {words}\n" for method, words in METHODS.items())
    listed = "".join(f"{number}. {why}\n" for why, number in reasons.items())
    return f"{HEAD}{said}\n{markdown.table(['model', *METHODS], rows)}\n## Why not\n\n{listed}"


def _cell(one: Verdict | None, reasons: dict[str, int]) -> str:
    if one is None or one.verdict != "no":
        return "" if one is None else one.verdict
    why = re.sub(r"none of the \d+ candidates", "nothing", one.why).replace(f"`{one.method}`", "`…`")
    return str(reasons.setdefault(why, len(reasons) + 1))
