"""The places of an adapter in a model, which must be as the adapter describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.adapter import Target, agree
from adaptr.errors import TargetMismatch, TargetNotFound, phrases
from adaptr.targets.modules import describe, expert_stacks, module_at, submodule
from adaptr.targets.sizes import hidden_size, size_at

if TYPE_CHECKING:
    from torch import Tensor, nn


def match(model: nn.Module, target: Target) -> None:
    """Raises `TargetNotFound` or `TargetMismatch` unless `model` has `target` as the adapter describes it."""
    found = _find(model, target)
    if found is None:
        names = [p for p, _ in model.named_parameters()] if "experts" in target.kind else _paths(model)
        raise TargetNotFound(f"the base has no `{target.path}`", hint=phrases.nearest(target.path, names))
    if found.kind != target.kind or not agree(found.shape, target.shape):
        raise TargetMismatch(
            f"`{target.path}`" if target.path else "the model itself",
            got=f"a {found.kind} of shape {found.shape} in the base",
            want=f"a {target.kind} of shape {target.shape} by the adapter",
            hint=phrases.BASE,
        )


def _find(model: nn.Module, target: Target) -> Target | None:
    if target.kind == "model":
        return Target("", "model", (hidden_size(model),))
    try:
        module = module_at(model, target)
    except AttributeError:
        return None
    if target.kind in {"module", "attention"}:
        return Target(target.path, target.kind, size_at(model, target.path, module, target.kind))
    if target.kind in {"experts", "experts_t"}:
        stacks = expert_stacks(target.path.rpartition(".")[0], module, {"experts", "experts_t"})
        return next((t for t in stacks if t.path == target.path), None)
    return describe(target.path, module)


def parameter(model: nn.Module, path: str) -> Tensor:
    """The parameter at `path`, or the buffer. Raises `TargetNotFound` with near names."""
    owner, _, name = path.rpartition(".")
    try:
        module = submodule(model, owner)
        # what stands there, whatever readers are given
        found = module._parameters.get(name) if name in module._parameters else module._buffers.get(name)
    except AttributeError:
        found = None
    if found is None:
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        raise TargetNotFound(f"the base has no parameter `{path}`", hint=phrases.nearest(path, names))
    return found


def _paths(model: nn.Module) -> list[str]:
    return [path for path, _ in model.named_modules() if path and ".adapters" not in path]
