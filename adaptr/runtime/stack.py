"""A stack: several adapters on one live model, changed between calls without building anything anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from adaptr import foreign, plugins
from adaptr.adapter import Adapter, weighting
from adaptr.adapter.weighting import Layers, Weight
from adaptr.composing import gather
from adaptr.contract.capabilities import STACK
from adaptr.errors import AlreadyAttached, Unsupported, UsageError
from adaptr.format import digest
from adaptr.host.group import leaves_of
from adaptr.host.handle import Handle
from adaptr.host.live import model_of
from adaptr.host.swap import arrange
from adaptr.sources.given import Given, One, Several, by_name, is_one, opened, several

if TYPE_CHECKING:
    from torch import nn


def stack(model: nn.Module, adapters: Several) -> Stack:
    """Attach several adapters of any methods: `stack(model, {"style": a, "tone": (b, 0.5)})`, or a saved stack.

    Adapters that are given without a name are called as their files are.

    A weight is a number, a list of numbers from the first layer to the last, or either by pattern of the path. Adapters
    are attached in their order, all or none. Raises what attaching raises, and `AlreadyAttached` for weights that are
    there twice, under whatever names.
    """
    model = model_of(model)
    given, off, whole = _children(model, adapters)
    made = Stack(model)
    try:
        for name, (adapter, weight) in given.items():
            made.add(name, adapter, weight)
        for name in off:
            made.off(name)
        if whole != 1.0:
            made.weight = whole
    except BaseException:
        made.detach()
        raise
    return made


def _children(model: nn.Module, adapters: Several) -> tuple[dict[str, tuple[Adapter, Any]], list[str], float]:
    """(adapter, weight) by name, the names of those that are off, and the weight of all."""
    given = several(adapters, least=0)
    if len(given) == 1 and not given[0].name:
        saved = opened(given[0].what, model)
        if saved.method == plugins.default(STACK):
            return *_saved(saved), weighting.number(given[0].weight, saved.label)
        if is_one(adapters):
            raise UsageError(f"`{saved.label}` is no stack but one `{saved.method}`", hint="name it: `{'a': adapter}`")
        given = [One(saved, given[0].weight)]
    return {name: (opened(each.what, model), each.weight) for name, each in by_name(given).items()}, [], 1.0


def _saved(saved: Adapter) -> tuple[dict[str, tuple[Adapter, Any]], list[str]]:
    order, weights, off = (saved.config[key] for key in ("order", "weights", "off"))
    return {name: (saved.part(name), weighting.restored(weights.get(name, 1.0), name)) for name in order}, list(off)


class Stack(Handle):
    """Adapters on a model by name. `stack["tone"]` is a weight, and may be set between calls.

    A `with` block takes all of them off at its end. Stacks nest, among themselves and with `attach`.
    """

    def __init__(self, model: nn.Module) -> None:
        method = plugins.default(STACK)
        super().__init__(model, Adapter(method, {}, {}, {}), method)
        self._adapters: dict[str, Adapter] = {}
        self._handles: dict[str, Handle] = {}  # of those that are attached
        self._weights: dict[str, Weight] = {}
        self._digests: dict[str, str] = {}
        self._off: set[str] = set()
        self._undo.append(self._clear)

    # ------------------------------------------------------------ looking

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which the adapters are applied."""
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)

    def __contains__(self, name: object) -> bool:
        return name in self._adapters

    def __getitem__(self, name: str) -> Weight:
        self._require(name)
        return self._weights[name]

    @property
    def active(self) -> tuple[str, ...]:
        """The names of those that are switched on."""
        return tuple(name for name in self if name not in self._off)

    def adapted(self, name: str = "") -> Adapter:
        """All of it as one adapter of the method `stack`: to be saved, attached, merged as a whole."""
        config = {"order": list(self), "weights": dict(self._weights), "off": sorted(self._off)}
        return gather.over(plugins.default(STACK), self._adapters, config=config).replace(name=name)

    # ------------------------------------------------------------ changing weights

    def __setitem__(self, name: str, weight: Weight) -> None:
        """Set a weight; it takes effect at the next forward, and stays with an adapter that is switched off."""
        self._require(name)
        now = weighting.checked(weight, name)
        if name in self._handles and name not in self._off:
            self._handles[name].weigh(self._strength(name, now))
        self._weights[name] = now

    @property
    def weight(self) -> float:
        """What all weights are multiplied by."""
        return self.strength

    @weight.setter
    def weight(self, value: float) -> None:
        before, self.strength = self.strength, value
        try:
            for name in self.active:
                self._handles[name]._check_strengths(self._strength(name, self._weights[name]))
        except Exception:
            self.strength = before
            raise
        for name in self.active:
            self._handles[name]._set_strengths(self._strength(name, self._weights[name]))

    def on(self, *names: str) -> None:
        """Switch adapters on again."""
        for name in names:
            self._require(name)
            if name in self._off:
                self._off.discard(name)
                if name in self._handles:
                    self._handles[name].weigh(self._strength(name, self._weights[name]))
                else:
                    self._attach(name)

    def off(self, *names: str) -> None:
        """Switch adapters off: the model is as if they were not there, and they keep their weights."""
        for name in names:
            self._require(name)
            if name not in self._off:
                self._silence(name)
                self._off.add(name)

    def only(self, *names: str) -> None:
        """Switch these on and all others off."""
        self.off(*(name for name in self.active if name not in names))
        self.on(*names)

    def weigh(self, by: object) -> None:
        raise UsageError("the adapters of a stack have weights of their own", hint="set one by `stack[name] = weight`")

    # ------------------------------------------------------------ changing adapters

    def add(self, name: str, adapter: Given, weight: Weight = 1.0) -> None:
        """Put an adapter on top of the others."""
        adapter = opened(adapter, self.model)
        if name in self._adapters:
            raise AlreadyAttached(
                f"the stack has an adapter called `{name}` already", hint="`swap` puts another in its place"
            )
        own = self._digest(name, adapter)
        self._adapters[name], self._weights[name] = adapter, weighting.checked(weight, name)
        try:
            self._attach(name)
        except BaseException:
            del self._adapters[name], self._weights[name]
            raise
        self._digests[name] = own

    def remove(self, name: str) -> None:
        """Take an adapter off."""
        self._require(name)
        self._detach(name)
        self._off.discard(name)
        del self._adapters[name], self._weights[name], self._digests[name]

    def swap(self, name: str, adapter: Given) -> None:
        """Put another adapter in the place of one, at its weight. If it does not fit, nothing is changed."""
        self._require(name)
        adapter = opened(adapter, self.model)
        own, before = self._digest(name, adapter), self._adapters[name]
        self._detach(name)
        self._adapters[name] = adapter
        try:
            self._attach(name)
        except BaseException:
            self._adapters[name] = before
            self._attach(name)
            raise
        self._digests[name] = own

    def reorder(self, names: Iterable[str]) -> None:
        """Apply the adapters in this order; it matters where one reads the weight that others changed."""
        order = list(names)
        if sorted(order) != sorted(self._adapters):
            raise UsageError("the order", got=order, want=f"{list(self)} in some order")
        self._adapters = {name: self._adapters[name] for name in order}
        self._arrange()

    # ------------------------------------------------------------ inside

    def _require(self, name: str) -> None:
        if name not in self._adapters:
            raise UsageError(f"the stack has no adapter `{name}`", hint=f"it has {', '.join(self._adapters) or 'none'}")

    def _digest(self, name: str, adapter: Adapter) -> str:
        """The digest of the weights, which no other of the stack may have."""
        found = digest.of_adapter(adapter.held())
        twin = next((other for other, known in self._digests.items() if known == found and other != name), None)
        if twin is not None:
            raise AlreadyAttached(
                f"`{name}` has the weights of `{twin}`", hint="give it once, with the sum of the weights"
            )
        return found

    def _attach(self, name: str) -> None:
        """Put an adapter on the model, at its place and strength."""
        adapter = self._adapters[name].replace(name="")  # two of one name may meet here
        foreign.require(adapter, self.model)
        handle: Handle = plugins.hooks(adapter.method).apply(model=self.model, adapter=adapter, weight=1.0)
        try:
            handle.weigh(self._strength(name, self._weights[name]))
        except BaseException:
            handle.detach()
            raise
        self._handles[name] = handle
        if name in self._off:
            self._silence(name)
        self._arrange()

    def _detach(self, name: str) -> None:
        if name in self._handles:
            self._handles.pop(name).detach()

    def _silence(self, name: str) -> None:
        """Strength 0, or off the model where a method has no strength."""
        try:
            self._handles[name].weigh(lambda path: 0.0)
        except Unsupported:
            self._detach(name)

    def _strength(self, name: str, weight: Weight) -> Callable[[str], float]:
        if isinstance(weight, float):
            product = self.strength * weight
            return lambda path: product
        layers = Layers(target.path for _, target in self._adapters[name].all_targets)
        return lambda path: self.strength * layers.weight(weight, path, name)

    def _arrange(self) -> None:
        """Give the states on each module the order of the stack."""
        modules: dict[int, tuple[nn.Module, list[str]]] = {}
        for name in self:
            for leaf in leaves_of(self._handles[name]) if name in self._handles else ():
                for path, state in leaf.states.items():
                    module = leaf.hosts[path]
                    held = getattr(module, "adapters", None)
                    keys = [] if held is None else [key for key, other in held.items() if other is state]
                    modules.setdefault(id(module), (module, []))[1].extend(keys)
        for module, keys in modules.values():
            if len(keys) > 1:
                arrange(module, keys)

    def _clear(self) -> None:
        for name in reversed(list(self._handles)):
            self._detach(name)
