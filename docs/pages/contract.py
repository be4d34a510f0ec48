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
    rows = [(f"`{c.__name__}`", str(c.exit_code), " ".join((c.__doc__ or "").split())) for c in classes()]
    intro = "Python code catches these classes; the command line ends with their number.\n"
    return "\n".join(["# Errors\n", intro, fenced(tree), table(("error", "exit code", "meaning"), rows)])


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
