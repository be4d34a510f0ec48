"""Whole parameters that an adapter replaces (heads, norms, tables)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from adaptr import targets as places
from adaptr.adapter import Adapter
from adaptr.errors import AlreadyAttached, phrases

MARK = "_adaptr_replacement"


def replaceable(model: nn.Module, path: str, tensor: Tensor) -> None:
    """Raises `TargetNotFound`, `ShapeError` or `AlreadyAttached` unless `tensor` can stand for the parameter at
    `path`.
    """
    found = places.parameter(model, path)
    if hasattr(found, MARK):
        raise AlreadyAttached(f"another adapter on this model has replaced `{path}` already", hint="detach it first")
    if found.shape != tensor.shape:
        raise phrases.misshapen(f"`{path}` in the base", found.shape, tensor.shape, by="by the adapter")


def replacements(
    model: nn.Module, adapter: Adapter, weight: float, trainable: bool
) -> Iterator[tuple[str, Replacement]]:
    """The adapter's whole parameters, each put in its place as it is asked for, by path.

    What stands under the adapter's own delta is its base: frozen, in every use of a tied weight, and nothing to do
    where it is what the model has. What was tied in the base that the adapter was made on stays tied.
    """
    grounds = set(adapter.grounds.values())
    tied = {name for names in adapter.base.ties for name in names}
    for path, tensor in adapter.replaced.items():
        below = path in grounds
        if not (below and same(model, path, tensor)):
            others = _uses(model, path) - set(adapter.replaced_paths) if below or path in tied else set()
            yield path, Replacement(model, path, tensor, weight, trainable and not below, sorted(others))


def same(model: nn.Module, path: str, tensor: Tensor) -> bool:
    """Whether the model's own parameter at `path` has these values, in its dtype."""
    found = places.parameter(model, path)
    alike = found.shape == tensor.shape and not hasattr(found, MARK) and found.device.type != "meta"
    return alike and torch.equal(found.detach(), tensor.detach().to(found))


def _uses(model: nn.Module, path: str) -> set[str]:
    """The other names of the parameter at `path`."""
    one = places.parameter(model, path)
    return {name for name, other in model.named_parameters(remove_duplicate=False) if other is one} - {path}


def slots(module: nn.Module, name: str) -> dict[str, Tensor | None]:
    """Where a module has what it calls `name`: among its parameters, or its buffers."""
    found = module._parameters if name in module._parameters else module._buffers
    return cast("dict[str, Tensor | None]", found)


class Replacement:
    """Another value in a parameter's place: W + w (V - W), in the dtype and on the device of W; in its `others` too.

    The base's own parameter object is kept aside and put back by `undo()`, so that ties and values return as they were,
    in the dtype and on the device that the model has by then.
    """

    def __init__(
        self, model: nn.Module, path: str, tensor: Tensor, weight: float, trainable: bool, others: Iterable[str] = ()
    ) -> None:
        split = [name.rpartition(".") for name in (path, *others)]
        self.places = [(model.get_submodule(owner), name) for owner, _, name in split]
        module, name = self.places[0]
        before = slots(module, name)[name]
        assert before is not None
        self.before, self.tensor = before, tensor
        value, learns = self.blended(weight), trainable and isinstance(before, nn.Parameter)
        value = nn.Parameter(value, requires_grad=learns) if isinstance(before, nn.Parameter) else value
        setattr(value, MARK, path)
        self._put(value)

    @property
    def value(self) -> Tensor:
        """What stands there now: a buffer is another object where the model was moved."""
        module, name = self.places[0]
        found = slots(module, name)[name]
        assert found is not None
        return found

    @property
    def learning(self) -> nn.Parameter | None:
        """What stands there, where it learns."""
        now = self.value
        return now if isinstance(now, nn.Parameter) and now.requires_grad else None

    def _put(self, value: Tensor) -> None:
        for module, name in self.places:
            slots(module, name)[name] = value

    def blended(self, weight: float) -> Tensor:
        before = self.before.detach()
        value = self.tensor.detach().to(before, copy=True)
        return value if weight == 1.0 else torch.lerp(before, value, weight)

    def blend(self, weight: float) -> None:
        """Change the strength."""
        with torch.no_grad():
            self.value.copy_(self.blended(weight))

    def learned(self) -> Tensor:
        """The value as it is now, in the adapter's dtype."""
        return self.value.detach().to(self.tensor.dtype, copy=True)

    def undo(self) -> None:
        self._follow()
        self._put(self.before)

    def _follow(self) -> None:
        """Move what was kept aside to where the model has gone since."""
        now = self.value
        if (now.dtype, now.device) == (self.before.dtype, self.before.device):
            return
        grad, self.before.grad = self.before.grad, None  # whose dtype must be that of the value
        self.before.data = self.before.data.to(now.device, now.dtype)
        self.before.grad = None if grad is None else grad.to(now.device, now.dtype)
