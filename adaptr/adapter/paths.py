"""The paths that an adapter names in its base, and what training's wrappers leave in them. Free of torch."""

from __future__ import annotations

from adaptr.adapter import Adapter, Target

#: What tools put between the parts of a path.
BETWEEN = ("_checkpoint_wrapped_module", "_orig_mod", "_fsdp_wrapped_module")


def paths_of(adapter: Adapter) -> dict[str, Target | None]:
    """All places that an adapter names in its base."""
    return {**dict.fromkeys(adapter.replaced_paths), **{p: t for p, t in adapter.targets.items() if p}}


def bare(path: str) -> str:
    """`path` without the wrappers that stand between a module and its parts, whose names no model gives."""
    return ".".join(part for part in path.split(".") if part not in BETWEEN)
