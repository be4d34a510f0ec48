"""How configurations name modules that are not packed."""

from __future__ import annotations

from collections.abc import Collection

#: What transformers leaves as it is where a configuration lists nothing: named as soon as it lists anything.
HEAD = "lm_head"


def skipped(listed: object, floats: Collection[str]) -> list[str]:
    """transformers' list of modules that are not packed, with `floats` in it."""
    known = [str(one) for one in listed] if isinstance(listed, list) else [HEAD]
    return [*known, *(path for path in sorted(floats) if not any(_covers(one, path) for one in known))]


def _covers(listed: str, path: str) -> bool:
    """Whether a name in the list means this module, or one that it is in."""
    return path.endswith(listed) or path.startswith(f"{listed}.")
