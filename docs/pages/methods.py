"""docs/methods.md, and the table of methods in the README."""

from __future__ import annotations

from dataclasses import replace

from adaptr import plugins
from adaptr.cli import catalogue
from pages.markdown import table, unlinked

ABILITIES = """\
## What each can

Of a 7B: the share of Llama's first of seven billion that it trains, with its own configuration and targets; nothing
where it wants adapters, tokens or biases that this model has none of. Merges: some weight does what it does; unmerges:
that weight, and the adapter, tell the base's (what else is needed is in the receipt); delta: what it adds is known
without the base, so it composes and diffs without one; in batches: it can be one row of a batch among other adapters.
"""


def cards() -> list[catalogue.Card]:
    """The built-in methods; installed ones are not this project's to document."""
    found = [replace(catalogue.card(name), share=catalogue.counted(name)) for name in plugins.builtin_files()]
    return sorted(found, key=lambda c: (c.family, c.name))


def listed() -> str:
    rows = []
    for c in cards():
        trains = " + ".join(c.parts.values()) or ", ".join(c.trained)
        source = f"[{c.arxiv}](https://arxiv.org/abs/{c.arxiv})" if c.arxiv else ""
        rows.append((f"`{c.name}`", c.family, trains, "yes" if c.mergeable else "no", c.formula, source))
    return table(("method", "family", "trains", "merges", "what it does", "arXiv"), rows)


def abilities() -> str:
    rows = []
    for c in cards():
        can = ("yes" if one else "" for one in (c.mergeable, c.inverse, c.delta, c.row, c.identity))
        share = "" if c.share is None else f"{c.share:.2%}" if c.share >= 1e-4 else f"{c.share:.4%}"
        rows.append((f"[`{c.name}`](#{c.name})", share, *can, c.peft.lower()))
    columns = ("method", "of a 7B", "merges", "unmerges", "delta", "in batches", "fresh: no change", "PEFT")
    return f"{ABILITIES}\n{table(columns, rows)}"


def page() -> str:
    return unlinked("\n".join(["# Methods\n", listed(), abilities(), *(described(c) for c in cards())]))


def described(c: catalogue.Card) -> str:
    parts = [f"## {c.name}\n", f"{c.title}: {c.formula}. {c.source}.\n"]
    if c.notes:
        parts.append(f"{c.notes}\n")
    if c.choose:
        parts.append(f"{c.choose}\n")
    facts = [
        ("family", c.family),
        ("goes to", ", ".join(f"`{t}`" for t in c.targets) or "what its parts go to"),
        ("works on", ", ".join(c.kinds) or "what its parts work on"),
        ("merges", "yes" if c.mergeable else f"no: {c.refusal}; possible: {c.possible}"),
        ("fresh", "leaves the model as it is" if c.identity else "changes the model"),
    ]
    parts.append("".join(f"- {name}: {value}\n" for name, value in facts))
    params = [(f"`{n}`", f"`{p['axes']}`", p["init"], p["when"]) for n, p in c.params.items()]
    fields = [(f"`{n}`", f"`{f['type']}`", f"`{f['default']!r}`") for n, f in c.config.items()]
    parts += [table(("tensor", "axes", "starts as", "only with"), params)] if params else []
    parts += [table(("field", "type", "default"), fields)] if fields else []
    return "\n".join(parts)
