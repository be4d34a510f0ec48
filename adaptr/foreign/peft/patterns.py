"""Regular expressions out of a file that anybody may have written: matched within a limit of time.

Python's own matcher can be kept busy for ever by forty characters; `regex` takes the same expressions and a limit.
"""

from __future__ import annotations

from adaptr.errors import ConfigConflict, shown

SECONDS = 1.0


def matches(pattern: str, path: str) -> bool:
    """Whether `pattern` matches all of `path`. Raises `ConfigConflict` for what is no expression or takes too long."""
    import regex

    try:
        return regex.fullmatch(pattern, path, timeout=SECONDS) is not None
    except regex.error as error:
        raise ConfigConflict(f"`{shown(pattern)}` is no regular expression: {error}") from None
    except TimeoutError:
        raise ConfigConflict(
            f"the pattern `{shown(pattern)}` takes longer than {SECONDS:g} s to match a module's name; write it "
            "simpler, or list the modules"
        ) from None
