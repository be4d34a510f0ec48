"""`Method`: what all families share. A method is its name, `Config`, `params` table and one or two formulas."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from adaptr import params as tables
from adaptr import settings, weighting
from adaptr.adapter import Adapter, Target
from adaptr.errors import BadConfig, NotMergeable, TargetNotFound, Unsupported, UsageError
from adaptr.params import Param
from adaptr.view import View

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adaptr.families.row import Row
    from adaptr.host import Handle, Session
    from adaptr.targets import Spec

#: What `merge` answers for methods that have no weight, by the kind of reason.
REASONS = {
    "non-linear": "it applies a non-linear function to the activation, so no change to the base weights reproduces it",
    "gated": "its weights are others for each token, so no change to the base weights reproduces it",
    "tokens": "it adds key/value or token positions, not weights",
}


class Member(NamedTuple):
    """An adapter inside another one, and how strong it is at each path."""

    name: str
    adapter: Adapter
    strength: Callable[[str], float]


class Method:
    """An adapter method. Subclass a family, not this.

    `name`: the one spelling used everywhere. `version`: of the mathematics; files carry it. `params`: its tensors at
    one target. `kinds`: target kinds it works on. `targets`: roles adapted when nothing is said. `unmergeable`: a key
    of `REASONS` if no weight does what it does, and `possible`: what can be done instead.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    family: ClassVar[str] = ""
    params: ClassVar[Mapping[str, Param]] = {}
    kinds: ClassVar[frozenset[str]] = frozenset()
    targets: ClassVar[tuple[str, ...]] = ()
    unmergeable: ClassVar[str] = ""
    possible: ClassVar[str] = "keep it attached"
    #: Whether a block of rows, or of columns, of the merged weight needs only that block of the base.
    rowwise: ClassVar[bool] = True
    colwise: ClassVar[bool] = False
    #: Whether a fresh adapter leaves the model as it is; a method that does not says why in its docstring.
    identity: ClassVar[bool] = True
    #: Of methods that are made of others: whether those learn too.
    trains_parts: ClassVar[bool] = True
    #: Whether what it computes of a weight and back, beyond operators and what it keeps, is single operations on
    #: elements: these have the same bits on every machine, where sums, products of matrices and functions have not. If
    #: not, a receipt holds every bit that a merge changes.
    portable: ClassVar[bool] = False
    #: The smallest size of an axis where it is not 1.
    least: ClassVar[Mapping[str, int]] = {}

    @dataclass(frozen=True)
    class Config:
        pass

    # ------------------------------------------------------------ the five hooks

    def train(self, model: nn.Module, adapter: Adapter) -> Session:
        from adaptr import host

        return host.train(model, self, adapter)

    def apply(self, model: nn.Module, adapter: Adapter, weight: float) -> Handle:
        from adaptr import host

        return host.attach(model, self, adapter, weight)

    def merge(self, adapter: Adapter, target: Target, base: View, weight: float) -> View:
        if self.unmergeable:
            raise NotMergeable(self.name, REASONS[self.unmergeable], self.possible)
        return self.view(base, adapter.at(target.path), self.config(target.config), weight)

    def unmerge(
        self, adapter: Adapter, target: Target, merged: View, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        if self.unmergeable:
            raise NotMergeable(self.name, REASONS[self.unmergeable], self.possible)
        return self.inverse(merged, adapter.at(target.path), self.config(target.config), kept, weight)

    def quantize(self, adapter: Adapter, scheme: str) -> Adapter:
        from adaptr.families import quantized

        return quantized.quantize(self, adapter, scheme)

    # ------------------------------------------------------------ what it is made of

    def members(self, adapter: Adapter) -> list[Member]:
        """The adapters that `adapter` is made of, in their order, with their strengths: usually itself."""
        return [Member("", adapter, lambda path: 1.0)]

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A fresh adapter over others, which `children` has as its parts. `model`: the base, None where unknown."""
        raise UsageError(f"`{self.name}` is made of no other adapters: leave `children` out")

    def row(self, target: Target, base: View, p: Mapping[str, Tensor]) -> Row:
        """What one row of a batch needs at a linear layer, where each row has its own adapter.

        `base`: the layer without adapters. Raises `Unsupported` where the method can't be said so.
        """
        raise Unsupported(self.no_row)

    @property
    def no_row(self) -> str:
        """Why there is no row, "" where there is one."""
        if type(self).row is not Method.row:
            return ""
        other = "what it does to a weight is neither of low rank nor a scale of features"
        reason = REASONS.get(self.unmergeable, other)
        return (
            f"`{self.name}` can't be one row of a batch among other adapters: {reason}. Possible: attach it to a model "
            "of its own, or `adaptr convert --method lora --rank R`, which measures the error, where it has a weight."
        )

    # ------------------------------------------------------------ what families and methods supply

    def view(self, base: View, p: Mapping[str, Tensor], cfg: Any, weight: float) -> View:
        """The layer `base` with the adapter in it."""
        raise NotImplementedError

    def inverse(
        self, merged: View, p: Mapping[str, Tensor], cfg: Any, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        """The layer below `merged`."""
        raise Unsupported(f"`{self.name}` has no inverse; keep the base's tensors")

    def keep(self, base: View, p: Mapping[str, Tensor], cfg: Any, rows: slice) -> dict[str, Tensor]:
        """What `inverse` needs beyond the adapter, for `rows` of the weight: usually nothing."""
        return {}

    def keep_whole(self, p: Mapping[str, Tensor], cfg: Any, weight: float) -> dict[str, Tensor]:
        """The same for all rows at once: what follows from the adapter, but not on every machine to the bit."""
        return {}

    def factors(self, cfg: Any) -> tuple[str, str, float] | None:
        """The names of B and A, and s, where all that the method does is to add s B A, made of these very tensors.

        Adapters that say so are computed together where several meet. None for all others.
        """
        return None

    def penalty(self, session: Session) -> Tensor | float:
        """What a training loss has added to it, beyond the task's own: usually nothing."""
        return 0.0

    def after_step(self, session: Session) -> None:
        """What a schedule does after each optimiser step, while gradients are still there: usually nothing.

        `session.steps` counts from 1; `session.memory` is the method's own between steps, tensors by `<path>:<name>`.
        """

    @property
    def scheduled(self) -> bool:
        """Whether it does something of its own after steps."""
        return type(self).after_step is not Method.after_step

    def remembered(self, session: Session) -> Mapping[str, Tensor]:
        """What is saved with an adapter in training, for going on: all of the session's memory, or what is needed."""
        return session.memory

    @property
    def additive(self) -> bool:
        """Whether it adds to the weight something that does not depend on the weight."""
        return False

    @property
    def invertible(self) -> bool:
        return type(self).inverse is not Method.inverse

    def travels(self, p: Mapping[str, Tensor], cfg: Any) -> bool:
        """Whether its inverse has the same bits on every machine, of a View that is `exact`."""
        return self.invertible and self.portable

    def check_weight(self, weight: float) -> None:
        """Raises `UsageError` or `Unsupported` for a strength that this method can't be applied with."""
        weighting.number(weight, self.name)

    # ------------------------------------------------------------ derived from the table

    def config(self, values: Mapping[str, Any]) -> Any:
        """`values` as a validated Config. Raises `BadConfig` for unknown fields, wrong types, values out of range."""
        try:
            key = tuple(values.items())
            return (
                self._configs[key] if key in self._configs else self._configs.setdefault(key, self._validated(values))
            )
        except TypeError:  # a list among the values
            return self._validated(values)

    @functools.cached_property
    def _configs(self) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Configurations validated before: an adapter has hundreds of targets and few configurations."""
        return {}

    def _validated(self, values: Mapping[str, Any]) -> Any:
        made = settings.validated(f"`{self.name}`", self.Config, values)
        self._in_range(vars(made))
        return made

    def _in_range(self, values: Mapping[str, Any]) -> None:
        """Sizes of axes are positive, rates of dropout are below one."""
        axes = {token for param in self.params.values() for token in param.tokens(values)} & set(values)
        for key in axes:
            if values[key] < self.least.get(key, 1):
                raise BadConfig(f"`{self.name}`: `{key}` is {values[key]}, wanted at least {self.least.get(key, 1)}")
        if not 0 <= values.get("dropout", 0) < 1:
            raise BadConfig(f"`{self.name}`: `dropout` is {values['dropout']}, wanted at least 0 and below 1")

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
        tables.check(self.name, where, self.params, found, self._dims(target, cfg), vars(cfg))

    def axes(self, target: Target, cfg: Any) -> dict[str, int]:
        """Sizes of axes that follow from target and configuration together. Raises `BadConfig` if they don't fit."""
        return {}

    def _dims(self, target: Target, cfg: Any) -> dict[str, int | tuple[int, ...]]:
        return {**target.dims, **self.axes(target, cfg)}

    def supports(self, target: Target) -> None:
        if target.kind not in self.kinds:
            raise Unsupported(
                f"`{self.name}` does not work on `{target.path or 'the model'}` of kind `{target.kind}`; "
                f"it works on {', '.join(sorted(self.kinds))}"
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
        from adaptr import targets as places

        # on the meta device nothing is drawn: shapes and counts alone
        generator = None if host.is_meta(model) else torch.Generator().manual_seed(seed)
        chosen: dict[str, Target] = {}
        tensors: dict[str, Tensor] = {}
        found = places.resolve(model, targets if targets is not None else self.targets, self.kinds)
        accepted = [place for place in found if self.accepts(model, place)]
        if not accepted:
            raise TargetNotFound(f"`{self.name}` can use none of the {len(found)} modules that match")
        # methods that draw from a stream of their own keep the seed, to draw the same again
        own_seed = {"seed": seed} if "seed" in settings.hints(self.Config) else {}
        values = self.complete(model, {**own_seed, **(config or {})}, accepted)
        for place in accepted:
            own = self.at_target(model, place, {**values, **places.override(place.path, overrides)})
            target = dataclasses.replace(place, config=vars(self.config(own)).copy())
            chosen[place.path] = target
            for name, tensor in self.init(target, host.view_of(model, target), generator).items():
                tensors.setdefault(f":{name}" if self.params[name].shared else f"{place.path}:{name}", tensor)
        shared = vars(self.config(values)).copy()
        return Adapter(self.name, shared, chosen, tensors, self.version, base=host.base_of(model, chosen))

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        """Fill in configuration fields that follow from the model and from all the places together."""
        return values

    def accepts(self, model: nn.Module, target: Target) -> bool:
        """Whether a module that matches is one this method can use."""
        return True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        """Configuration for one target where it depends on the place."""
        return values

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

    def init_rule(self, param: str, target: Target) -> str:
        return self.params[param].init

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        from adaptr import plugins

        return (plugins.method, (self.name,))
