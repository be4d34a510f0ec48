"""From an adapter to states at its mounts: what its method answers, for one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.adapter.tensors import all_at_least
from adaptr.contract import mounts
from adaptr.errors import TargetNotFound, phrases
from adaptr.format.finite import require_finite
from adaptr.host.finding import site
from adaptr.host.identity import content_of, other_weights, quantization_of
from adaptr.host.names import current, formerly
from adaptr.host.packed import require_sound
from adaptr.host.replace import replaceable, same
from adaptr.host.state import Given, State

if TYPE_CHECKING:
    from adaptr.contract import Mount
    from adaptr.families.base import Method
    from adaptr.sites.base import Site


class Mounting:
    """One adapter that is to be put on a model.

    `adapter`: with the names that the model has now, and `given` from these to those it came with. `parts`: the
    adapters inside it, where its method mounts them within its own. `common`: what its mounts share beyond tensors.
    """

    def __init__(self, model: nn.Module, method: Method, adapter: Adapter, weight: float, trainable: bool) -> None:
        self.model, self.method, self.weight, self.trainable = model, method, weight, trainable
        self.adapter = current(model, method.placed(model, adapter))
        self.given = formerly(self.adapter, adapter)
        self.parts: dict[str, Adapter] = {}
        self.common: dict[str, Any] = {}
        self._made: dict[str, nn.Parameter] = {}
        if self.adapter.parts:
            held = self.adapter.held()
            for name in method.inner(held):
                before = held.part(name)
                self.parts[name] = current(model, before)
                self.given |= formerly(self.parts[name], before)

    @cached_property
    def mounts(self) -> list[tuple[Site, Mount, Target]]:
        """Where everything sits, each with the target whose tensors are there."""
        own, places = self.adapter.parts, self.parts.items()
        header = self.adapter.replace(parts={n: dataclasses.replace(own[n], targets=p.targets) for n, p in places})
        found = self.method.mounts(self.model, header)
        return [self._placed(mount) for mount in found if self.trainable or not mount.training]

    def _placed(self, mount: Mount) -> tuple[Site, Mount, Target]:
        target = self._target(mount)
        where = site(mount.site).at(self.model, mount, target)
        return where, dataclasses.replace(mount, site=where.name), target

    @cached_property
    def _lent(self) -> frozenset[str]:
        """The targets whose tensors are at other mounts too."""
        return frozenset(path for _, mount, _ in self.mounts for path in mount.shared)

    def _target(self, mount: Mount) -> Target:
        """A place where only parts have tensors has the adapter's own configuration."""
        owner = mount.shared[0] if mount.shared else mount.path
        found = self.adapter.targets.get(owner)
        if found is not None:
            return found
        inside = next((p.targets[owner] for p in self.parts.values() if owner in p.targets), None)
        if inside is None:
            raise TargetNotFound(
                f"`{self.method.name}` mounts `{owner}`, which is no target of `{self.adapter.label}`",
                hint="its `mounts` may name targets of the adapter alone",
            )
        return dataclasses.replace(inside, config=self.adapter.config)

    # ------------------------------------------------------------ what can be wrong

    def check(self) -> None:
        """All that can be known to be wrong, before anything is touched."""
        method, adapter = self.method, self.adapter
        require_sound(self.model)
        method.check_weight(self.weight)
        if not adapter.targets and not adapter.replaced and not self.parts:
            raise phrases.no_targets(adapter.label, "attaching")
        for path, target in adapter.targets.items():
            method.check(target, adapter.shapes(path))
        for where, mount, target in self.mounts:
            where.check(self.model, method, mount, target, self.trainable)
        for part in self.parts.values():
            Mounting(self.model, plugins.method(part.method), part, 1.0, False).check()
        self._check_replaced()
        self._check_content()

    def _check_replaced(self) -> None:
        grounds = set(self.adapter.grounds.values())
        for path, tensor in self.adapter.replaced.items():
            if not (path in grounds and same(self.model, path, tensor)):
                replaceable(self.model, path, tensor)

    def _check_content(self) -> None:
        base = self.adapter.base
        asked = base.content and not quantization_of(self.model)
        found = content_of(self.model, self.adapter.targets) if asked else ""
        if found and found != base.content:
            hint = "load the right revision, or in Python attach `adapter.replace(base=adaptr.Base())` to use it anyway"
            raise other_weights(self.adapter, "the base", hint)

    # ------------------------------------------------------------ what is put there

    def states(self) -> Iterator[tuple[str, Mount, State]]:
        """One for each mount, by a name of its own. What several have is one parameter in all of them."""
        self.adapter = self.adapter.held()
        require_finite(self.adapter)
        names: set[str] = set()
        for where, mount, target in self.mounts:
            state = where.state(self, mount, target)
            self._share(state)
            name = mount.path if mount.path not in names else f"{mount.path}@{mount.site}"
            names.add(name)
            yield name, mount, state

    def _share(self, state: State) -> None:
        lent = state.target.path in self._lent
        mine = [n for n in state if lent or self.method.params[n].shared]
        for name in mine:
            one = self._made.setdefault(state.key(name), state._parameters[name])  # type: ignore[arg-type]
            state._parameters[name] = one
        state.__dict__["common"] = frozenset(mine)

    def of(self, mount: Mount, target: Target) -> Given:
        """What a state at that mount is made of."""
        tensors = self._tensors(self.adapter, target.path) if target.path in self.adapter.targets else {}
        return self.method, target, mount, tensors, self.weight, self.trainable

    def parts_at(self, path: str) -> dict[str, State]:
        """The states of the parts that have tensors at `path`, frozen, by name."""
        here = {name: part for name, part in self.parts.items() if path in part.targets}
        return {name: _frozen(part, path, self._widened(part.at(path))) for name, part in here.items()}

    def _tensors(self, adapter: Adapter, path: str) -> Mapping[str, Tensor]:
        return adapter.at(path) if self.trainable else self._widened(adapter.at(path))

    def _widened(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """In at least the model's precision: a bf16 adapter must not round what an fp32 model gives it."""
        return all_at_least(tensors, self._dtype)

    @cached_property
    def _dtype(self) -> torch.dtype:
        """That of the model; looked for once, and not for each of hundreds of targets."""
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)


def _frozen(part: Adapter, path: str, tensors: Mapping[str, Tensor]) -> State:
    target = part.targets[path]
    method = plugins.method(part.method)
    return State(method, target, mounts.of(target, method.context), tensors, 1.0, False)
