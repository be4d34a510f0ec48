"""docs/strategies.md."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from adaptr import strategies
from adaptr.cli import catalogue
from pages.markdown import table, unlinked

SPACES = {"factors": "on factors", "core": "in the core space", "elements": "on elements", "adapters": "on adapters"}
STRATEGIES = """\
How `adaptr compose` makes one delta of several, at each target. What works on factors or in the core space is exact and
never dense; what works on elements goes through dense deltas block by block, and its result is stored as `full`, or as
a LoRA of the `--rank` or `--energy` asked for, with the measured error. A strategy is a file of a few lines (see
`plugins/adaptr_strategies/`) or a class given by the entry-point group `adaptr.strategies`.

The order of the inputs changes nothing but where the last column says so (what is drawn goes with an input's weights,
not with its place), and an input whose weight goes to 0 leaves nothing behind but where it says so. By common scale:
all weights times c are the result times c, or, with `=`, the same result. `adaptr.testing.StrategyLaws` holds every
strategy to that.
"""
COLUMNS = ("strategy", "works", "random", "what it does", "arXiv", "scale", "order and jumps")


def page() -> str:
    found = [strategies.get(name) for name in strategies.SORT.files()]
    found.sort(key=lambda s: (list(SPACES).index(s.space), s.name))
    cited = {s.name: catalogue.first_line(_documented(s).partition("\n\n")[0]) for s in found}
    rows = []
    for s in found:
        _, formula, _, arxiv = cited[s.name]
        source = f"[{arxiv}](https://arxiv.org/abs/{arxiv})" if arxiv else ""
        scale = "=" if s.scale_free or s.normalize else "c"
        known = f"order: {s.ordered}" if s.ordered else ""
        known = "; ".join(filter(None, (known, f"jumps at weight 0: {s.jumps}" if s.jumps else "")))
        rows.append((f"`{s.name}`", SPACES[s.space], "seeded" if s.random else "", formula, source, scale, known))
    sections = [_strategy(s, *cited[s.name]) for s in found]
    return unlinked("\n".join(["# Strategies\n", STRATEGIES, table(COLUMNS, rows), *sections]))


def _documented(strategy: Any) -> str:
    return inspect.cleandoc(inspect.getmodule(type(strategy)).__doc__)  # type: ignore[union-attr,arg-type]


def _strategy(s: Any, title: str, formula: str, source: str, arxiv: str) -> str:
    notes = " ".join(_documented(s).partition("\n\n")[2].split())
    fields = [(f"`{f.name}`", f"`{f.type}`", f"`{f.default!r}`") for f in dataclasses.fields(s.Config)]
    parts = [f"## {s.name}\n", f"{title}: {formula}.{source and f' {source}.'}\n", *([notes + "\n"] if notes else [])]
    return "\n".join([*parts, *([table(("field", "type", "default"), fields)] if fields else [])])


def section(name: str) -> str:
    found = strategies.get(name)
    return _strategy(found, *catalogue.first_line(_documented(found).partition("\n\n")[0]))
