"""Gate methods: y = base(x) + w Σ s_i D_i x, the deltas D_i of frozen experts mixed by weights s from the gate.

The author supplies `params` and `mix(x, p, cfg)`, the weights at one layer; where they come from a pass of the base,
`passes` and `scalings(hidden, p, cfg)`. Experts are adapters of any delta method, held as parts. Gates of fixed weights
(`static`) have a weight of their own and are merged and converted like a delta.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from adaptr import plugins
from adaptr.adapter import Adapter, Target, kinds
from adaptr.contract import Live, Member, Mount, View, Weighing
from adaptr.contract.settings import C
from adaptr.families import composite
from adaptr.families.over import Over

if TYPE_CHECKING:
    from torch import Tensor, nn


#: Where a weight for each token has a meaning.
KINDS = kinds.LAYERS | {kinds.TABLE}


class Gate(Over[C]):
    """A small network, or a table, that weighs experts."""

    family: ClassVar[str] = "gate"
    formulas: ClassVar[tuple[str, ...]] = ("mix",)
    kinds: ClassVar[frozenset[str]] = KINDS
    unmergeable: ClassVar[str] = "gated"
    possible: ClassVar[str] = "keep it attached; `lora-soups` learns weights that are the same for every token"
    examples: ClassVar[Mapping[str, tuple[str, Sequence[str] | None, Mapping[str, Any]]]] = {
        "law": ("lora", ["attn.o", "mlp.down"], {"r": 2}),
        "code": ("loha", ["attn.o"], {"r": 2}),
        "art": ("lora", ["mlp.down"], {"r": 3, "rslora": True}),
    }
    #: Whether the base runs before each forward, for `scalings` to read its last hidden states.
    passes: ClassVar[bool] = False

    def mix(self, x: Tensor, p: Weighing, cfg: C) -> Tensor:
        """The experts' weights at one layer, (n) or for each token (..., n), from its input x and the gate there."""
        raise NotImplementedError

    def scalings(self, hidden: Tensor, p: Live, cfg: C) -> Tensor:
        """The weights (batch, tokens, sites, n) from the base's last hidden states (batch, tokens, d)."""
        raise NotImplementedError

    def number(self, cfg: C, path: str) -> int:
        """Which of the sites in `scalings` a layer is."""
        return 0

    def fixed(self, adapter: Adapter, path: str) -> list[float]:
        """The experts' weights at a layer, of a gate whose weights don't depend on the input."""
        raise self.refusal()

    @classmethod
    def claims(cls) -> Iterator[tuple[str, str]]:
        if cls.passes and cls.scalings is Gate.scalings:
            yield "`passes` says that the base runs before, and there is no `scalings` to read what it gives", ""

    # ------------------------------------------------------------ hooks, and where it sits

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """Its own tensors, where they are at the model, and each layer with experts."""
        own = [
            Mount(path, "hidden", context=self.context) for path, target in adapter.targets.items() if target.is_model
        ]
        layers = dict.fromkeys(path for part in adapter.parts.values() for path in part.targets)
        return [*own, *(Mount(path, "mixture", context=self.context) for path in layers)]

    def merge(self, adapter: Adapter, target: Target, base: View, weight: float) -> View:
        if self.unmergeable:
            raise self.refusal()
        return composite.merged(self, adapter, target, base, weight)

    def unmerge(
        self, adapter: Adapter, target: Target, merged: View, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        if self.unmergeable:
            raise self.refusal()
        return composite.unmerged(self, adapter, target, merged, kept, weight)

    # ------------------------------------------------------------ what families supply

    def members(self, adapter: Adapter) -> list[Member]:
        if self.unmergeable:
            return super().members(adapter)
        experts = vars(self.config(adapter.config))["experts"]
        return [
            Member(name, adapter.part(name), lambda path, i=i: self.fixed(adapter, path)[i])  # type: ignore[misc]
            for i, name in enumerate(experts)
        ]

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        import torch

        site = cast("Weighing", p)
        signal = site.signal

        def call(x: Tensor) -> Tensor:
            if not signal.silent:
                s = site.weights(x)
                y = site.mixed(base, x, s if weight == 1.0 else s * weight)
            elif signal.probe:
                y = site.mixed(base, x, torch.full((site.count,), signal.probe, device=x.device))
            else:
                y = cast("Tensor", base(x))
            return y

        def rows(s: slice) -> Tensor:
            raise self.refusal()

        return base.then(call=call, rows=rows)

    def accept(self, name: str, part: Adapter) -> None:
        method = plugins.method(part.method)
        if not method.can.delta:
            raise self.unfit(name, method, "weighs deltas", "convert it to `lora` where that is possible, or stack it")
        super().accept(name, part)
