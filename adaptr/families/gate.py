"""Gate methods: y = base(x) + w Σ s_i D_i x, the deltas D_i of frozen experts mixed by weights s from the gate.

The author supplies `params` and `mix(x, p, cfg)`, the weights at one layer; where they come from a pass of the base,
`passes` and `scalings(hidden, p, cfg)`. Experts are adapters of any delta method, held as parts. Gates of fixed weights
(`static`) have a weight of their own and are merged and converted like a delta.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import kinds, plugins
from adaptr.adapter import Adapter, Target
from adaptr.contract import C, Member
from adaptr.errors import NotPossible, Unsupported, UsageError
from adaptr.families import composite
from adaptr.families.base import Method
from adaptr.live import Live
from adaptr.mounts import Mount
from adaptr.view import View

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


#: Where a weight for each token has a meaning.
KINDS = kinds.LAYERS | {kinds.TABLE}


class Gate(Method[C]):
    """A small network, or a table, that weighs experts."""

    family: ClassVar[str] = "gate"
    formulas: ClassVar[tuple[str, ...]] = ("mix",)
    kinds: ClassVar[frozenset[str]] = KINDS
    identity: ClassVar[bool] = False
    trains_parts: ClassVar[bool] = False
    unmergeable: ClassVar[str] = "gated"
    possible: ClassVar[str] = "keep it attached; `lora-soups` learns weights that are the same for every token"
    examples: ClassVar[Mapping[str, tuple[str, Sequence[str] | None, Mapping[str, Any]]]] = {
        "law": ("lora", ["attn.o", "mlp.down"], {"r": 2}),
        "code": ("loha", ["attn.o"], {"r": 2}),
        "art": ("lora", ["mlp.down"], {"r": 3, "rslora": True}),
    }
    #: Whether the base runs before each forward, for `scalings` to read its last hidden states.
    passes: ClassVar[bool] = False

    def mix(self, x: Tensor, p: Any, cfg: C) -> Tensor:
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
        own = [Mount(path, "hidden") for path, target in adapter.targets.items() if target.is_model]
        layers = dict.fromkeys(path for part in adapter.parts.values() for path in part.targets)
        return [*own, *(Mount(path, "mixture") for path in layers)]

    def inner(self, adapter: Adapter) -> Sequence[str]:
        return list(vars(self.config(adapter.config))["experts"])

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

    def quantize(self, adapter: Adapter, scheme: str) -> Adapter:
        """The experts in `scheme`; the gate itself is small and stays."""
        return composite.quantized(self, adapter, scheme)

    # ------------------------------------------------------------ what families supply

    def members(self, adapter: Adapter) -> list[Member]:
        if self.unmergeable:
            return super().members(adapter)
        experts = vars(self.config(adapter.config))["experts"]
        return [
            Member(name, adapter.part(name), lambda path, i=i: self.fixed(adapter, path)[i])  # type: ignore[misc]
            for i, name in enumerate(experts)
        ]

    def view(self, base: View, p: Any, cfg: C, weight: float) -> View:
        import torch

        signal = p.signal

        def call(x: Tensor) -> Tensor:
            if not signal.silent:
                s = p.weights(x)
                y: Tensor = p.mixed(base, x, s if weight == 1.0 else s * weight)
            elif signal.probe:
                y = p.mixed(base, x, torch.full((p.count,), signal.probe, device=x.device))
            else:
                y = base(x)
            return y

        def rows(s: slice) -> Tensor:
            raise self.refusal()

        return base.then(call=call, rows=rows)

    # ------------------------------------------------------------ a fresh gate

    def create(self, model: nn.Module, *args: Any, **kwargs: Any) -> Adapter:
        raise UsageError(f"`{self.name}` weighs other adapters: give them as `children={{name: adapter}}`")

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A gate over experts. Raises `Unsupported` for what is no delta, `NotPossible` for whole parameters."""
        import torch

        from adaptr import host

        if model is None:
            raise UsageError(f"`{self.name}` is made for a model: give it")
        for name in children.parts:
            self._accept(name, children.part(name))
        sites = _sites(model, children)
        cfg = self.config(self.resolved({"experts": list(children.parts), **config}, list(sites)))
        values = dataclasses.asdict(cfg)
        generator = None if host.is_meta(model) else torch.Generator().manual_seed(seed)
        targets, tensors = {}, dict(children.tensors)
        for place in self.places(model, list(sites.values())):
            target = targets[place.path] = dataclasses.replace(place, config=values)
            made = self.start(target, children, cfg, generator)
            tensors |= {f"{place.path}:{name}": tensor for name, tensor in made.items()}
        return children.replace(config=values, targets=targets, tensors=tensors)

    def resolved(self, values: dict[str, Any], sites: list[str]) -> dict[str, Any]:
        """Configuration fields that follow from the layers where there are experts."""
        return values

    def places(self, model: nn.Module, sites: list[Target]) -> list[Target]:
        """Where the gate's own tensors are: at each layer with experts."""
        return sites

    def start(self, target: Target, children: Adapter, cfg: C, generator: Generator | None) -> dict[str, Tensor]:
        """The gate's tensors at one place."""
        from adaptr.view import of_weight

        return self.init(target, of_weight(None), generator)  # type: ignore[arg-type]

    def _accept(self, name: str, part: Adapter) -> None:
        method = plugins.method(part.method)
        if not method.can.delta:
            raise Unsupported(
                f"`{self.name}` weighs deltas, and the expert `{name}` is `{part.method}` of the family "
                f"`{method.family}`; convert it to `lora` where that is possible, or stack it"
            )
        strange = next((t for t in part.targets.values() if t.kind not in self.kinds), None)
        if strange is not None:
            raise Unsupported(
                f"`{self.name}`: the expert `{name}` is at `{strange.path}` of kind `{strange.kind}`; it works on "
                f"{', '.join(sorted(self.kinds))}"
            )
        if part.replaced:
            raise NotPossible(f"`{self.name}`: the expert `{name}` replaces `{next(iter(part.replaced))}` as a whole")


def _sites(model: nn.Module, children: Adapter) -> dict[str, Target]:
    """The layers with experts, in the model's order."""
    found = {target.path: target for part in children.parts.values() for target in part.targets.values()}
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))
