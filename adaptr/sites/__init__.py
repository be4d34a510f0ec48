"""Sites: the sorts of places in a live model where a method can sit. One small file each, found by its name.

A site says how to find its places by role, what must be checked, how to mount a state there and take it off, and how
the state stands around what is below it (`adaptr.sites.base.Site`). Decision 19 has the table of formulas.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import Unsupported, phrases

if TYPE_CHECKING:
    from adaptr.sites.base import Site


def names() -> Sequence[str]:
    """The names of all sites."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if file.stem not in {"__init__", "base"}]


@functools.cache
def site(name: str) -> Site:
    """The site of that name. Raises `Unsupported` for one that there is not."""
    if name not in names():
        raise phrases.unknown(Unsupported, "there is no site in a model called", name, names(), "sites")
    found: Site = importlib.import_module(f"adaptr.sites.{name}").SITE
    return found
