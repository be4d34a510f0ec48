"""What an adapter says of its own making: enough to make it again, and nothing of whose machine it was.

The same inputs give the same bytes, however often the training was interrupted. So what differs from run to run, such
as the time that it took, is in the report and in `OUT.run/report.json`, not here.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from adaptr.format import canonical
from adaptr.training.recipe import Recipe, resolved
from adaptr.version import __version__

LIBRARIES = ("torch", "transformers", "accelerate", "trl", "bitsandbytes")


def versions(quantized: bool) -> dict[str, str]:
    """Of all that computes. bitsandbytes only where it did."""
    found = {"adaptr": __version__, "python": platform.python_version()}
    for name in LIBRARIES if quantized else LIBRARIES[:-1]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def recipe_of(recipe: Recipe, digests: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The resolved form, and its digest."""
    found = _plain(resolved(recipe, digests))
    return found, "sha256:" + hashlib.sha256(canonical.dumps(found).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
