"""Tables and blocks of Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence


def with_block(text: str, name: str, block: str) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, _, rest = text.partition(start)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"there is no {start.strip()} ... {end}")
    return f"{head}{start}{block}{end}{tail}"


def with_tables(text: str, blocks: Mapping[str, str]) -> str:
    for name, block in blocks.items():
        text = with_block(text, name, block)
    return text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in lines)


def unlinked(text: str) -> str:
    """A text whose brackets one behind the other, as of matrices, are no link by a name."""
    return re.sub(r"\](\s?)\[", r"]\1\\[", text)


def fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```\n"


def paragraphs(text: str | None) -> str:
    return inspect.cleandoc(text or "") + "\n"
