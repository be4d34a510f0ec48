"""docs/hooks.md and docs/errors.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from adaptr import errors, hookspecs
from pages.markdown import fenced, paragraphs, table


def hooks() -> str:
    parts = ["# The five hooks\n", paragraphs(hookspecs.__doc__)]
    for name in hookspecs.HOOKS:
        function = getattr(hookspecs, name)
        signature = re.sub(r"'", "", str(inspect.signature(function)))
        parts += [f"## {name}\n", f"```text\ndef {name}{signature}\n```\n", paragraphs(function.__doc__)]
    return "\n".join(parts)


def exceptions() -> str:
    tree = paragraphs(errors.__doc__)
    rows = [(_linked(c.__name__), str(c.exit_code), _meaning(c)[0]) for c in classes()]
    intro = (
        "Python code catches these classes; the command line ends with their number. `adaptr explain CLASS` prints\n"
        "what is said here of one; [troubleshooting](troubleshooting.md) goes by what you see. A message names what\n"
        "whoever called can give: `--force` on the command line, `force=True` in Python.\n"
    )
    told = [_explained(c) for c in classes()]
    return "\n".join(["# Errors\n", intro, fenced(tree), table(("error", "exit code", "meaning"), rows), *told])


def _linked(name: str) -> str:
    return f"[`{name}`](#{name.lower()})"


def _meaning(error: Any) -> tuple[str, str]:
    """What it means, and what there is to know of it."""
    meaning, _, notes = inspect.cleandoc(error.__doc__ or "").partition("\n\n")
    return " ".join(meaning.split()), notes.strip()


def _explained(error: Any) -> str:
    meaning, notes = _meaning(error)
    above = [c.__name__ for c in error.__mro__[1:] if issubclass(c, errors.AdaptrError)]
    caught = f" Caught by {', '.join(map(_linked, above))}." if above else ""
    return (
        f"## {error.__name__}\n\n{meaning}\n\n"
        + (f"{notes}\n\n" if notes else "")
        + (f"Exit code {error.exit_code}.{caught}\n")
    )


def classes() -> Iterator[Any]:
    """Every error, in the order of the tree."""
    waiting: list[type[errors.AdaptrError]] = [errors.AdaptrError]
    while waiting:
        found = waiting.pop()
        yield found
        own = (kind for kind in found.__subclasses__() if kind.__module__.startswith("adaptr."))
        below = [kind for kind in own if kind.__name__ in errors.__all__]
        below.reverse()  # the first goes last, where it is taken
        waiting += sorted(below, key=lambda kind: -kind.exit_code)
