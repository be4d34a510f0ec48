"""A site by its name: a file of `adaptr.sites`, which stands on the host and is imported when it is asked for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.discovery import installed
from adaptr.errors import Unsupported, phrases

if TYPE_CHECKING:
    from adaptr.sites.base import Site


def names() -> Sequence[str]:
    """The names of all sites."""
    files = sorted(installed.folder("adaptr.sites").glob("[!_]*.py"))
    return [file.stem for file in files if file.stem != "base"]


@functools.cache
def site(name: str) -> Site:
    """The site of that name. Raises `Unsupported` for one that there is not."""
    if name not in names():
        raise phrases.unknown(Unsupported, "there is no site in a model called", name, names(), "sites")
    found: Site = importlib.import_module(f"adaptr.sites.{name}").SITE
    return found
