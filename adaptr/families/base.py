"""`Method`: a method of the contract, with the verbs answered and all that follows from its table."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.contract import Contract, View, settings
from adaptr.contract import params as tables
from adaptr.contract.settings import C
from adaptr.errors import BadConfig, ShapeError, TargetNotFound, Unsupported, shown
from adaptr.families import hosting

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adaptr.targets import Spec


plugins.answer(hosting.HOST)
#: The most numbers that one tensor of a fresh adapter may have: a quarter of a terabyte.
LARGEST = 2**36


class Method(Contract[C]):
    """An adapter method. Subclass a family, not this."""

    # ------------------------------------------------------------ three of the five hooks; the host answers the others

    def merge(self, adapter: Adapter, target: Target, base: View, weight: float) -> View:
        if self.unmergeable:
            raise self.refusal()
        return self.view(base, adapter.at(target.path), self.config(target.config), weight)

    def unmerge(
        self, adapter: Adapter, target: Target, merged: View, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        if self.unmergeable:
            raise self.refusal()
        return self.inverse(merged, adapter.at(target.path), self.config(target.config), kept, weight)

    def quantize(self, adapter: Adapter, scheme: str) -> Adapter:
        from adaptr.families import quantized

        return quantized.quantize(self, adapter, scheme)

    # ------------------------------------------------------------ derived from the table

    def config(self, values: Mapping[str, Any]) -> C:
        """`values` as a validated Config. Raises `BadConfig` for unknown fields, wrong types, values out of range."""
        try:
            key = tuple(values.items())
            return (
                self._configs[key] if key in self._configs else self._configs.setdefault(key, self._validated(values))
            )
        except TypeError:  # a list among the values
            return self._validated(values)

    @functools.cached_property
    def _configs(self) -> dict[tuple[tuple[str, Any], ...], C]:
        """Configurations validated before: an adapter has hundreds of targets and few configurations."""
        return {}

    def _validated(self, values: Mapping[str, Any]) -> C:
        made: C = settings.validated(f"`{self.name}`", self.Config, values)
        self._in_range(vars(made))
        return made

    def _in_range(self, values: Mapping[str, Any]) -> None:
        """Sizes of axes are positive, and all is from its `least` to its `most`; rates of dropout are below one."""
        axes = {token for param in self.params.values() for token in param.tokens(values)} & set(values)
        for key in sorted(axes | set(self.least)):
            if values[key] < self.least.get(key, 1):
                raise BadConfig(f"`{self.name}`: `{key}`", got=values[key], want=f"at least {self.least.get(key, 1)}")
        for key, most in self.most.items():
            if values[key] > most:
                raise BadConfig(f"`{self.name}`: `{key}`", got=values[key], want=f"at most {most}")
        if not 0 <= values.get("dropout", 0) < 1:
            raise BadConfig(f"`{self.name}`: `dropout`", got=values["dropout"], want="at least 0 and below 1")

    def shapes(self, target: Target) -> dict[str, tuple[int, ...]]:
        """The shapes of this method's tensors at `target`."""
        cfg = self.config(target.config)
        return tables.shapes(self.params, self._dims(target, cfg), vars(cfg))

    def count(self, target: Target) -> int:
        """The numbers trained at `target`."""
        cfg = self.config(target.config)
        return tables.count(self.params, self._dims(target, cfg), vars(cfg))

    def check(self, target: Target, found: Mapping[str, tuple[int, ...]]) -> None:
        """Raises `ShapeError` or `Unsupported` if `found` is not what the method has at `target`."""
        self.supports(target)
        cfg = self.config(target.config)
        where = target.path or "the model"
        if not all(isinstance(size, int) for size in target.shape):  # of a file whose reader does not look
            raise ShapeError(
                f"`{self.name}`: the shape of `{where}`", got=shown(str(target.shape)), want="whole numbers"
            )
        tables.check(self.name, where, self.params, found, self._dims(target, cfg), vars(cfg))

    def _dims(self, target: Target, cfg: C) -> dict[str, int | tuple[int, ...]]:
        return {**target.dims, **self.axes(target, cfg)}

    def supports(self, target: Target) -> None:
        if target.kind not in self.kinds:
            raise Unsupported(
                f"`{self.name}` does not work on `{target.path or 'the model'}` of kind `{target.kind}`",
                hint=f"it works on {', '.join(sorted(self.kinds))}",
            )

    # ------------------------------------------------------------ a fresh adapter

    def create(
        self,
        model: nn.Module,
        targets: Spec = None,
        config: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
    ) -> Adapter:
        """A fresh adapter for `model`. `targets`: roles, patterns or paths; `overrides`: pattern to configuration
        fields.

        The tensors come from a generator seeded with `seed`, in the order of the targets.
        """
        import torch

        from adaptr import host

        # on the meta device nothing is drawn: shapes and counts alone
        generator = None if host.is_meta(model) else torch.Generator().manual_seed(seed)
        values, found = self.chosen(model, targets, config, overrides, seed)
        chosen = {target.path: target for target in found}
        tensors: dict[str, Tensor] = {}
        for target in found:
            for name, tensor in self.init(target, host.view_of(model, target), generator).items():
                first = tensors.setdefault(self.key(target.path, name), tensor)
                if first.shape != tensor.shape:
                    raise ShapeError(
                        f"`{self.name}`: all targets share `{name}`, which",
                        verb="has the shape",
                        got=f"{tuple(first.shape)} at the first of them and {tuple(tensor.shape)} at `{target.path}`",
                        hint="name targets of one shape",
                    )
        shared = vars(self.config(values)).copy()
        made = Adapter(self.name, shared, chosen, tensors, self.version, base=host.base_of(model, chosen))
        return self.begun(model, made, seed)

    def usual(self, model: nn.Module, config: Mapping[str, Any]) -> str | Sequence[str]:
        """Where it goes when nothing is said. Of a `Sketch`, without torch."""
        return self.targets

    def chosen(
        self,
        model: nn.Module,
        targets: Spec = None,
        config: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
    ) -> tuple[dict[str, Any], list[Target]]:
        """The configuration and the targets that `create` makes tensors for. Of a `Sketch`, without torch."""
        from adaptr import targets as places

        spec = targets if targets is not None else self.usual(model, config or {})
        found = places.resolve(model, spec, self.kinds)
        accepted = [place for place in found if self.accepts(model, place)]
        if not accepted:
            raise TargetNotFound(
                f"`{self.name}` can use none of the {len(found)} modules that match",
                hint=f"it works on {self.wants or ', '.join(sorted(self.kinds))}",
            )
        # methods that draw from a stream of their own keep the seed, to draw the same again
        own_seed = {"seed": seed} if any(f.name == "seed" for f in dataclasses.fields(self.Config)) else {}
        given = {**own_seed, **(config or {})}
        self._validated(given)  # before anything is computed of it
        values = self.complete(model, given, accepted)
        made = []
        for place in accepted:
            own = self.at_target(model, place, {**values, **places.override(place.path, overrides)})
            made.append(dataclasses.replace(place, config=vars(self.config(own)).copy()))
        chosen = list(self.together(model, made))
        for one in chosen:
            self._require_room(one)
        return values, chosen

    def _require_room(self, target: Target) -> None:
        """Raises `BadConfig` for a tensor that no machine holds, before anybody tries."""
        for name, shape in self.shapes(target).items():
            if math.prod(shape) > LARGEST:
                raise BadConfig(
                    f"`{self.name}` at `{target.path}`: `{name}`",
                    verb="would have",
                    got=f"the shape {shape}",
                    want=f"at most {LARGEST:,} numbers",
                )

    def outline(
        self, model: nn.Module, targets: Spec = None, config: Mapping[str, Any] | None = None
    ) -> list[tuple[Method, Target]]:
        """Each target of a fresh adapter with the method there: of what is made of parts, theirs."""
        return [(self, target) for target in self.chosen(model, targets, config)[1]]

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        """Fresh tensors at `target`. A method with `init="custom"` parameters overrides `init_custom`."""
        from adaptr.families.init import fresh

        shapes = self.shapes(target)
        made = {
            name: fresh(self.init_rule(name, target), shape, generator, target.stacked)
            for name, shape in shapes.items()
            if self.params[name].init != "custom"
        }
        return {**made, **self.init_custom(target, base, made)}

    def __reduce__(self) -> tuple[Any, ...]:
        return (plugins.method, (self.name,))
