"""Regular expressions out of a file that anybody may have written: matched within a limit of time.

Python's own matcher can be kept busy for ever by forty characters; `regex` takes the same expressions and a limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from adaptr.errors import ConfigConflict, shown

SECONDS = 1.0


def matches(pattern: str, path: str) -> bool:
    """Whether `pattern` matches all of `path`. Raises `ConfigConflict` for what is no expression or takes too long."""
    return bool(chosen(pattern, [path]))


def chosen(pattern: str, paths: Iterable[str]) -> list[str]:
    """The paths that `pattern` matches as a whole, within one limit of time for all of them."""
    import regex

    end = time.monotonic() + SECONDS
    try:
        return [path for path in paths if regex.fullmatch(pattern, path, timeout=max(end - time.monotonic(), 1e-3))]
    except regex.error as error:
        raise ConfigConflict(
            f"`{shown(pattern)}` is no regular expression: {error}", hint="correct it, or list the modules"
        ) from None
    except TimeoutError:
        raise ConfigConflict(
            f"the pattern `{shown(pattern)}` takes longer than {SECONDS:g} s to match a module's name",
            hint="write it simpler, or list the modules",
        ) from None
