"""What packings are and what merging into them was measured to cost, in docs/quantised-models.md."""

from __future__ import annotations

import ast

from adaptr.packings import SORT
from pages.markdown import table


def packings() -> dict[str, str]:
    """What each packing is, by the first paragraph of its file."""
    documents = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in SORT.sources().items()}
    said = {name: (ast.get_docstring(tree) or "").partition("\n\n")[0] for name, tree in documents.items()}
    listed = table(("`quant_method`", "what"), [(f"`{name}`", " ".join(text.split())) for name, text in said.items()])
    return {"packings": listed}
