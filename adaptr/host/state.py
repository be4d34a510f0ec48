"""The tensors of one adapter at one target, live, and what is kept of what they give."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from adaptr.adapter import Target
from adaptr.contract import Mount
from adaptr.errors import MissingContext, Unsupported
from adaptr.host.call import put, take
from adaptr.host.draws import Draws, place_of
from adaptr.host.experts import Part
from adaptr.host.finding import site
from adaptr.host.watch import Watch
from adaptr.precision import autocasts

if TYPE_CHECKING:
    from adaptr.families.base import Method
    from adaptr.host.context import Context
    from adaptr.host.entrance import Entrance
    from adaptr.host.tree import Leaf
    from adaptr.sites.base import Site

#: What a state is made of: method, target, mount, tensors, strength, and whether they learn.
Given = tuple["Method", Target, Mount, Mapping[str, Tensor], float, bool]
_SERIALS = itertools.count()  # ids of objects are used again


class State(nn.Module):
    """The tensors of one adapter at one target, live. Reads like the mapping that families expect."""

    def __init__(
        self,
        method: Any,
        target: Target,
        mount: Mount,
        tensors: Mapping[str, Tensor],
        weight: float,
        trainable: bool,
    ) -> None:
        super().__init__()
        self.method: Any
        self.target: Target
        self.mount: Mount
        self.site: Site
        self.reads: dict[str, Reading]
        self.calls: dict[str, nn.Module]
        self.strength: float
        self.cfg: Any
        self.memo: dict[tuple[str, bool], tuple[Watch, Tensor]]
        self.learning: list[str]
        self.heeded: bool
        self.common: frozenset[str]
        self.serial: int
        self.part: Part | None
        self.entrance: Entrance | None
        self.draws: Draws
        self.number: int
        self.leaf: Leaf | None
        self.__dict__.update(  # past nn.Module's own way of setting, which costs more than all the rest here
            training=trainable,
            method=method,
            target=target,
            mount=mount,
            site=site(mount.site),
            reads={path: Reading(path, self) for path in mount.reads},
            calls={},  # the modules that its mount calls, which are the model's
            strength=weight,
            cfg=method.config(target.config),
            memo={},
            part=None,  # where its layer is a part of a stack
            leaf=None,  # of the blocks that it is in
            entrance=None,  # where a forward's context is found, for methods that ask for one
            serial=next(_SERIALS),
            common=frozenset(),  # the tensors that other mounts have too
            heeded=False,  # whether the View in use looks at the strength in each call
            learning=[name for name in tensors if trainable and method.params[name].trains],
        )
        for name, tensor in tensors.items():
            self._parameters[name] = _parameter(tensor, name in self.learning)

    def key(self, name: str) -> str:
        """What a tensor is called in the adapter."""
        found: str = self.method.key(self.target.path, name)
        return found

    @property
    def parts(self) -> Mapping[str, State]:
        """The adapters that it is made of, where they have tensors here, frozen."""
        return cast("Mapping[str, State]", self._modules.get("members", {}))

    @property
    def dtype(self) -> torch.dtype | None:
        """That of its tensors, None where it has none."""
        return next((p.dtype for p in self._parameters.values() if p is not None), None)

    @property
    def slots(self) -> Mapping[str, Tensor | None]:
        return self._parameters

    def branches(self, h: Tensor) -> Mapping[str, Tensor]:
        raise Unsupported(
            f"`{self.mount.path}`: what other adapters add is known at an output alone",
            hint="mount the method at the site `output`",
        )

    def __getitem__(self, name: str) -> Tensor:
        return self._parameters[name]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        state = {**self.__dict__, "memo": {}}
        return (_blank_state, (type(self),), state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.site.awake()

    def taken(self, path: str = "") -> Tensor:
        """The input of a module that the mount reads, once; of the only one, if none is named."""
        reading = self.reads[path] if path else next(iter(self.reads.values()))
        found: Tensor | None = take(reading)
        if found is None:
            raise Unsupported(
                f"`{self.mount.path}`: `{reading.path}`, whose input this adapter reads, did not run before it "
                "in this call",
                hint="call the whole model",
            )
        return found

    def call(self, path: str, x: Tensor) -> Tensor:
        """What a module of the base that the mount `calls` makes of x, in its own dtype; it comes back in that of x."""
        module = self.calls[path]
        own = next((p.dtype for p in module.parameters()), x.dtype)
        made: Tensor = module(x.to(own))
        return made.to(x.dtype)

    @property
    def context(self) -> Context:
        """What the forward that this is asked in knows. Raises `MissingContext` outside of one."""
        found = None if self.entrance is None else self.entrance.now()
        if found is None:
            where = self.mount.path or "the model"
            if not self.mount.context:
                asks = f"`{self.method.name}` asks what the forward knows without `context = True` on its mount"
                raise MissingContext(asks, hint="set it there, or on the class for all its mounts")
            raise MissingContext(
                f"`{self.method.name}` at `{where}` asks what the forward knows, and this call came past it",
                hint="call the model, or a stack of it; where you checkpoint blocks yourself, say "
                "`context_fn=adaptr.checkpointing`, or use `activation_checkpointing_enable`",
            )
        return found

    @property
    def place(self) -> str:
        """Where the adapter is in the model."""
        return self.mount.path

    @property
    def whose(self) -> int:
        """A number that all places of one adapter have, and no other on any model."""
        return self.draws.key

    def draw(self, n: int, stream: int = 0) -> Tensor:
        """A whole number below n, the same for this forward and place (`Context.draw`)."""
        return self.context.draw(self, n, stream)

    def enters(self, entrance: Entrance, draws: Draws) -> None:
        """Find the context of forwards at `entrance`, and draw by `draws`."""
        self.__dict__.update(entrance=entrance, draws=draws, number=place_of(self.mount.path))

    def sources(self, strength: float) -> tuple[Any, ...]:
        """All that this adapter's part of a layer depends on."""
        if self._modules:
            return self.serial, strength, *self.parameters(), *self.buffers()
        return self.serial, strength, *self._parameters.values(), *self._buffers.values()

    def derived(self, name: str, sources: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        """A value computed from `sources`, tensors and others, kept until one of them changes.

        Not kept while gradients flow, while tracing, or where a change would not be noticed. Made without autocast,
        which would leave its rounding in what is kept.
        """
        device = next(iter(self._parameters.values())).device.type  # type: ignore[union-attr]
        if autocasts(device):
            with torch.autocast(device, enabled=False):
                return self.derived(name, sources, make)
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(map(_learns, sources))):
            return make()
        key = name, torch.is_inference_mode_enabled()  # what is made in that mode may not enter autograd later
        found = self.memo.get(key)
        if found is not None and found[0].holds(sources):
            return found[1]
        if not Watch.can(sources):
            return make()
        watch = Watch(sources)
        value = make()
        self.memo[key] = watch, value
        return value


class Reading:
    """A forward pre-hook on another module: remember its input, for this call, where `state` will ask for it."""

    def __init__(self, path: str, state: State) -> None:
        self.path, self.state = path, state

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.state.strength:  # at 0 nobody takes it, and it would stay with the thread
            put(self, args[0] if args else next(iter(kwargs.values())))


def _parameter(tensor: Tensor, learns: bool) -> nn.Parameter:
    """What is made in inference mode counts no versions, by which it is known what may be kept: it is made anew."""
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return _parameter(tensor, learns)
    kept = tensor.detach()
    return nn.Parameter(kept.clone() if learns or tensor.is_inference() else kept, requires_grad=learns)


def _learns(source: object) -> bool:
    return isinstance(source, Tensor) and source.requires_grad


def _blank_state(kind: type[State]) -> State:
    return kind.__new__(kind)
