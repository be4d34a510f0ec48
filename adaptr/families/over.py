"""Methods over other adapters, which stay as they are: tensors of its own where those have some, or at the model.

The configuration has the names of the others as `experts`, in their order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.adapter import Adapter, Target
from adaptr.contract.settings import C
from adaptr.errors import NotPossible, Unsupported, UsageError
from adaptr.families import composite
from adaptr.families.base import Method

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class Over(Method[C]):
    """What gates and fusions share."""

    identity: ClassVar[bool] = False
    needs: ClassVar[bool] = True
    trains_parts: ClassVar[bool] = False
    unmergeable: ClassVar[str] = "gated"

    def inner(self, adapter: Adapter) -> Sequence[str]:
        return list(vars(self.config(adapter.config))["experts"])

    def quantize(self, adapter: Adapter, scheme: str) -> Adapter:
        """The parts in `scheme`; what is over them is small and stays."""
        return composite.quantized(self, adapter, scheme)

    # ------------------------------------------------------------ a fresh adapter over others

    def chosen(self, model: nn.Module, *args: object, **kwargs: object) -> tuple[dict[str, Any], list[Target]]:
        raise UsageError(f"`{self.name}` weighs other adapters", hint="give them as `children={name: adapter}`")

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """An adapter over others. Raises `Unsupported` for what can be no part, `NotPossible` for whole parameters."""
        import torch

        from adaptr import host

        if model is None:
            raise UsageError(
                f"`{self.name}` is made for a model, and none was given", hint="give it as the first argument"
            )
        for name in children.parts:
            self.accept(name, children.part(name))
        sites = _sites(model, children)
        cfg = self.config(self.resolved({"experts": list(children.parts), **config}, list(sites)))
        values = dataclasses.asdict(cfg)
        generator = None if host.is_meta(model) else torch.Generator().manual_seed(seed)
        targets, tensors = {}, dict(children.tensors)
        for place in self.places(model, list(sites.values())):
            own = self.at_place(place, children, values)
            target = targets[place.path] = dataclasses.replace(place, config=own)
            made = self.start(target, children, cfg, generator)
            tensors |= {f"{place.path}:{name}": tensor for name, tensor in made.items()}
        return children.replace(config=values, targets=targets, tensors=tensors)

    def resolved(self, values: dict[str, Any], sites: list[str]) -> dict[str, Any]:
        """Configuration fields that follow from the places with parts."""
        return values

    def places(self, model: nn.Module, sites: list[Target]) -> list[Target]:
        """Where its own tensors are: at each place with parts."""
        return sites

    def at_place(self, place: Target, children: Adapter, values: dict[str, Any]) -> dict[str, Any]:
        """Configuration at one place, where it depends on what the parts are there."""
        return values

    def start(self, target: Target, children: Adapter, cfg: C, generator: Generator | None) -> dict[str, Tensor]:
        """Its tensors at one place."""
        from adaptr.contract.view import of_weight

        return self.init(target, of_weight(None), generator)  # type: ignore[arg-type]

    def accept(self, name: str, part: Adapter) -> None:
        """Raises `Unsupported` or `NotPossible` for an adapter that can't be a part."""
        strange = next((t for t in part.targets.values() if t.kind not in self.kinds), None)
        if strange is not None:
            raise Unsupported(
                f"`{self.name}`: the expert `{name}` is at `{strange.path}` of kind `{strange.kind}`",
                hint=f"it works on {', '.join(sorted(self.kinds))}",
            )
        if part.replaced:
            raise NotPossible(
                f"`{self.name}`: the expert `{name}` replaces `{next(iter(part.replaced))}` as a whole",
                hint="leave that parameter out of the expert, or train it with the gate",
            )

    def unfit(self, name: str, method: Method, does: str, hint: str) -> Unsupported:
        """The refusal of a part that lacks what this method `does` something with."""
        return Unsupported(
            f"`{self.name}` {does}, and `{name}` is `{method.name}` of the family `{method.family}`",
            hint=hint,
        )


def _sites(model: nn.Module, children: Adapter) -> dict[str, Target]:
    """The places with parts, in the model's order."""
    found = {target.path: target for part in children.parts.values() for target in part.targets.values()}
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))
