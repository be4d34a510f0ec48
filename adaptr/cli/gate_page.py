"""The weights of a gate as one page: by token, and by token and layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from adaptr.cli import html
from adaptr.cli.page import split

if TYPE_CHECKING:
    from adaptr.runtime.scalings import Scalings


def page(found: Scalings) -> str:
    """The page. The same weights give the same text."""
    places = split(list(found.sites))
    data = {
        "gate": os.path.basename(os.path.abspath(found.gate)),
        "method": found.method,
        "tokens": found.tokens,
        "experts": found.experts,
        "sites": [
            {"path": path, "layer": layer, "module": module}
            for path, (layer, module) in zip(found.sites, places, strict=True)
        ],
        "values": [[[html.short(w) for w in token] for token in site] for site in found.values],
        "absent": found.absent,
    }
    return html.filled("gate", data)
