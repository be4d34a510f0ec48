"""Fusion methods: y = h + w (f(h, x, branches) - h): what several trained inserts would add at one place, combined.

The author supplies `params` and `combine(h, x, branches, p, cfg)`. The inserts are parts, frozen, and sit at the same
places, so that each adds to the same output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import plugins
from adaptr.adapter import Adapter, kinds
from adaptr.contract import Live, Mount, mounts
from adaptr.contract.settings import C
from adaptr.errors import Unsupported
from adaptr.families.over import Over

if TYPE_CHECKING:
    from torch import Tensor, nn


class Fusion(Over[C]):
    """A small network that combines inserts."""

    family: ClassVar[str] = "fusion"
    formulas: ClassVar[tuple[str, ...]] = ("combine",)
    kinds: ClassVar[frozenset[str]] = frozenset({kinds.PLACE})
    possible: ClassVar[str] = "keep it attached"

    def combine(self, h: Tensor, x: Tensor, branches: Mapping[str, Tensor], p: Live, cfg: C) -> Tensor:
        """The new output, from the old one h (..., d), the input x, and what each part would add to h, by name."""
        raise NotImplementedError

    def output(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        return self.combine(h, x, p.branches(h), p, cfg)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """Each place, reading whatever its parts read there, and calling what they call."""
        return [_mount(adapter, path, self.context) for path in adapter.targets]

    def accept(self, name: str, part: Adapter) -> None:
        method = plugins.method(part.method)
        if not method.can.branch:
            does = "combines what inserts add to an output"
            raise self.unfit(name, method, does, "attach that beside it, or stack it")
        super().accept(name, part)

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        first, *others = (set(part.targets) for part in children.parts.values())
        apart = sorted(set().union(*(first ^ other for other in others)))
        if apart:
            raise Unsupported(
                f"`{self.name}`: its parts must be at the same places, and not all are at `{apart[0]}`",
                hint="train them with the same targets",
            )
        return super().over(model, children, config, seed)


def _mount(adapter: Adapter, path: str, context: bool) -> Mount:
    here = [mounts.of(part.targets[path]) for part in adapter.parts.values() if path in part.targets]
    reads, calls = (tuple(dict.fromkeys(one for m in here for one in getattr(m, name))) for name in ("reads", "calls"))
    return Mount(path, "output", reads, context=context, calls=calls)
