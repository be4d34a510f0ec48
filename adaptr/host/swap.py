"""Class swap: a target module becomes an instance of `Adapted<Class>`, a subclass made once per class.

The adapters' states sit in a child `ModuleDict` called `adapters`. The forward runs the composed View, built at the
first call after a change. `__reduce_ex__` rebuilds the subclass, so that deepcopy and pickle work.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptr.adapter import Target
from adaptr.errors import Unsupported
from adaptr.host import beside
from adaptr.host.call import find, put, restore, take
from adaptr.host.experts import Part, experts_value, parameter_of, refuse_bias
from adaptr.host.watch import Watch
from adaptr.targets import applies_own
from adaptr.view import View, of_weight

CACHE = "_adaptr_view"
#: Where a forward that was set on the instance is meanwhile (accelerate does so): it would hide the class's.
FORWARD = "_adaptr_forward"
#: What a layer finds in a call of its own forward.
RAW = "raw"
_SERIALS = itertools.count()  # ids of objects are used again


class State(nn.Module):
    """The tensors of one adapter at one target, live. Reads like the mapping that families expect."""

    def __init__(
        self, method: Any, target: Target, tensors: Mapping[str, Tensor], weight: float, trainable: bool
    ) -> None:
        super().__init__()
        self.method: Any
        self.target: Target
        self.strength: float
        self.cfg: Any
        self.memo: dict[tuple[str, bool], tuple[Watch, Tensor]]
        self.learning: list[str]
        self.heeded: bool
        self.serial: int
        self.part: Part | None
        self.__dict__.update(  # past nn.Module's own way of setting, which costs more than all the rest here
            method=method,
            target=target,
            strength=weight,
            cfg=method.config(target.config),
            memo={},
            part=None,  # where its layer is a part of a stack
            serial=next(_SERIALS),
            heeded=False,  # whether the View in use looks at the strength in each call
            learning=[name for name in tensors if trainable and method.params[name].trains],
        )
        for name, tensor in tensors.items():
            learns = name in self.learning
            kept = tensor.detach().clone() if learns else tensor.detach()
            self.register_parameter(name, nn.Parameter(kept, requires_grad=learns))
        self.train(trainable)

    @property
    def shared(self) -> list[str]:
        """Those that learn of which all targets have one."""
        return [name for name in self.learning if self.method.params[name].shared]

    def __getitem__(self, name: str) -> Tensor:
        return self._parameters[name]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = {**self.__dict__, "memo": {}}
        return (_blank_state, (type(self),), state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.target.kind == "attention":
            from adaptr.host import attention

            attention.register()  # the unpickled model's configuration names the wrapper

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook on another module: remember its input."""
        put(self, args[0] if args else next(iter(kwargs.values())))

    def taken(self) -> Tensor:
        """The remembered input, once."""
        found: Tensor | None = take(self)
        if found is None:
            raise Unsupported(
                f"`{self.target.path}`: `{self.cfg.reads}`, whose input this adapter reads, did not run before it in "
                "this call"
            )
        return found

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
        if torch.is_autocast_enabled(device):
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


def _learns(source: Any) -> bool:
    return isinstance(source, Tensor) and source.requires_grad


def _blank_state(kind: type[State]) -> State:
    return kind.__new__(kind)


@functools.cache
def adapted(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose forward runs the adapters on it."""

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = self.__dict__.get(CACHE)
        # another parameter may have been put in place: assigned state dicts, tied or replaced weights
        if found is None or found[0] is not self._parameters.get("weight"):
            found = _composed(self)
        return found[1](*args, **kwargs)

    return _subclass(cls, forward, adapted)


@functools.cache
def read(cls: type[nn.Module]) -> type[nn.Module]:
    """As `adapted`, where others read the weight past the forward: they get it with the adapters in it."""
    return _subclass(cls, adapted(cast(Any, cls)).forward, read, __getattr__=_seen(cls), _adaptr_is_read=True)


@functools.cache
def within(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose own forward reads its weight with the adapters in it (routers of experts)."""
    return _subclass(cls, cls.forward, within, __getattr__=_seen(cls))


def _seen(cls: type[nn.Module]) -> Callable[[Any, str], Any]:
    def seen(self: Any, name: str) -> Any:
        """Where Python looks for parameters; `state_dict`, `parameters()` and optimisers don't come this way."""
        if name not in {"weight", "bias"} or self._parameters.get(name) is None or find(self) is RAW:
            return cls.__getattr__(self, name)
        found = self.__dict__.get(CACHE)
        if found is None or found[0] is not self._parameters.get("weight"):
            found = _composed(self)
        return _value(self, found[2], name)

    return seen


def _composed(module: nn.Module) -> tuple[Tensor | None, Callable[..., Any], View]:
    """The weight that the View is made for, its forward, and itself: kept on the module until something changes."""
    view = compose(module)
    found = (module._parameters.get("weight"), view.call, view)
    if not torch.compiler.is_compiling():  # closures made in a trace can't leave it
        module.__dict__[CACHE] = found
    return found


def _value(module: nn.Module, view: View, name: str) -> Tensor:
    """The adapted weight or bias, as the layer stores it."""
    stored = cast(Tensor, module._parameters[name])
    if not stored.is_floating_point():
        return stored  # packed: who reads it knows how, and no adapter can be in it
    _refuse_dropout(module)
    if name == "bias":
        return cast(Tensor, view.bias).to(stored.dtype)
    if module._parameters.get("bias") is None and view.bias is not None:
        raise Unsupported(
            f"a weight is read of a `{original(module).__name__}` without a bias, which its adapter changes"
        )
    value = view.weight.to(stored.dtype)
    return value.t() if _is_transposed(module) else value


def _refuse_dropout(module: nn.Module) -> None:
    """A weight has no input that could be dropped."""
    for state in cast("list[State]", list(cast(nn.ModuleDict, module.adapters).values())):
        if state.training and getattr(state.cfg, "dropout", False):
            raise Unsupported(dropped(state.target.path, state.method.name))


def dropped(path: str, method: str) -> str:
    """Why there is no dropout at a layer."""
    return (
        f"`{path}`: its weight is read and its input is not given to the adapter, so `{method}` can't drop any of "
        "it: train with `dropout=0`, there alone by `overrides`, or leave the layer out of the targets"
    )


def _raw_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The layer's own forward, which sees its own weight."""
    before = put(module, RAW)
    try:
        return own_forward(module)(*args, **kwargs)
    finally:
        restore(before)


def own_forward(module: nn.Module) -> Callable[..., Any]:
    """The forward of a layer without adapters."""
    found: Callable[..., Any] | None = module.__dict__.get(FORWARD)
    return functools.partial(original(module).forward, module) if found is None else found


@functools.cache
def owner(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose forward sees adapted values in place of its raw parameters (expert stacks)."""

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = {parameter_of(state) for state in self.adapters.values()}
        before = put(self, {name: experts_value(self, name) for name in names})
        try:
            return own_forward(self)(*args, **kwargs)
        finally:
            restore(before)

    def seen(self: Any, name: str) -> Any:
        """Where Python looks for parameters. Other threads, and who asks outside of the forward, see them raw."""
        values = find(self)
        return values[name] if values is not None and name in values else cls.__getattr__(self, name)

    return _subclass(cls, forward, owner, __getattr__=seen)


def _subclass(cls: type[nn.Module], forward: Any, kind: Any, **more: Any) -> type[nn.Module]:
    def reduce(self: Any, protocol: Any) -> Any:
        return (_rebuild, (kind, cls), {k: v for k, v in self.__dict__.items() if k != CACHE})

    body = {"forward": forward, "__reduce_ex__": reduce, "__module__": cls.__module__, "_adaptr_base": cls, **more}
    return type(f"Adapted{cls.__name__}", (cls,), body)


def _rebuild(kind: Any, cls: type[nn.Module]) -> nn.Module:
    swapped: type[nn.Module] = kind(cls)
    return swapped.__new__(swapped)


def original(module: nn.Module) -> type[nn.Module]:
    """The class of a module, without the swap."""
    found: type[nn.Module] = getattr(type(module), "_adaptr_base", type(module))
    return found


def mount(module: nn.Module, key: str, state: State, is_read: bool = False) -> None:
    """Put `state` on `module` under `key`, above what is there already. `is_read`: others read the weight."""
    swapped = _swapped(module, state, is_read)
    if "adapters" not in module._modules:
        module.adapters = nn.ModuleDict()
    module.__class__ = swapped
    if "forward" in module.__dict__ and swapped.forward is not original(module).forward:
        module.__dict__[FORWARD] = module.__dict__.pop("forward")
    cast(nn.ModuleDict, module.adapters)[key] = state
    module.__dict__.pop(CACHE, None)


def _swapped(module: nn.Module, state: State, is_read: bool) -> type[nn.Module]:
    """The class that `module` gets. Raises `Unsupported` where it has one that can't be both."""
    cls = original(module)
    called, whole, stacks, inner = (cast(Any, kind)(cls) for kind in (adapted, read, owner, within))
    if state.part is not None or state.target.kind in {"experts", "experts_t"}:
        refuse_bias(state, module._parameters[parameter_of(state)])
        wanted, fits = stacks, {cls, stacks}
    elif state.target.kind != "module" and applies_own(cls):
        wanted, fits = inner, {cls, inner}
    else:  # once read, always read: another model around this one may read it
        wanted, fits = whole if is_read or type(module) is whole else called, {cls, called, whole}
    if type(module) not in fits:
        raise Unsupported(f"`{state.target.path}`: a module can't have adapters on itself and on its parameters")
    found: type[nn.Module] = wanted
    return found


def unmount(module: nn.Module, key: str) -> None:
    """Take the state called `key` off; the last one restores the class."""
    adapters = cast(nn.ModuleDict, module.adapters)
    del adapters[key]
    module.__dict__.pop(CACHE, None)
    if not adapters:
        del module.adapters
        module.__class__ = original(module)
        if FORWARD in module.__dict__:
            module.__dict__["forward"] = module.__dict__.pop(FORWARD)


def arrange(module: nn.Module, keys: Sequence[str]) -> None:
    """Give the states called `keys` their places among themselves in this order; others keep theirs."""
    held = cast(nn.ModuleDict, module.adapters)._modules
    turn = iter(keys)
    order = [next(turn) if key in keys else key for key in held]
    states = {key: held[key] for key in order}
    held.clear()
    held.update(states)
    module.__dict__.pop(CACHE, None)


def compose(module: nn.Module) -> View:
    """The View of a swapped module: its own layer with all its adapters, in order.

    What changes the layer's weight comes before what works on its output, whichever was attached first. At strength 0
    an adapter is not there.
    """
    view = base_view(module)
    states = cast("list[State]", list(cast(nn.ModuleDict, module.adapters).values()))
    for run in beside.runs(sorted(states, key=lambda s: s.target.kind == "module")):
        view = beside.together(view, run)
    return view


def base_view(module: nn.Module) -> View:
    """The View of a module as it is without adapters."""
    is_read = getattr(type(module), "_adaptr_is_read", False)
    call = functools.partial(_raw_forward, module) if is_read else own_forward(module)
    weight = module._parameters.get("weight")
    if weight is None and not isinstance(getattr(module, "weight", None), Tensor):
        return View(call, functools.partial(_no_weight, type(module).__name__))
    op, axis = _operation(module)
    transposed = _is_transposed(module)

    def rows(s: slice) -> Tensor:
        W = dense(module)
        return (W.t() if transposed else W)[s]

    def plain() -> Tensor | None:
        return weight.t() if transposed and weight is not None else weight

    def sources() -> tuple[Any, ...]:
        now = module._parameters.get("weight")
        return (now,) if type(now) is nn.Parameter else (now, *_quantised_with(now))

    bias = lambda: module._parameters.get("bias")
    if weight is None:  # computed from others at each call, as weight normalisation does
        return View(call, rows, bias, op, sources=lambda: _own_parameters(module), axis=axis)
    if not _is_plain(module, weight):
        return View(call, rows, bias, op, sources=sources, axis=axis)
    return View(call, rows, bias, op, plain, sources=sources, axis=axis)


def _quantised_with(weight: Any) -> tuple[Any, ...]:
    """What stands beside a packed weight and says what its numbers mean."""
    state = getattr(weight, "quant_state", None)
    return () if state is None else (state.absmax, state.code)


def _own_parameters(module: nn.Module) -> tuple[Tensor, ...]:
    """All that a parametrised weight is computed from, without the adapters on it."""
    return tuple(p for name, p in module.named_parameters() if not name.startswith("adapters."))


def _is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as (in, out)."""
    return type(module).__name__.endswith("Conv1D") or isinstance(module, nn.Embedding)


def _is_plain(module: nn.Module, weight: Tensor) -> bool:
    """Whether the layer is x Wᵀ + b and nothing else: a subclass may do more in its forward."""
    if FORWARD in module.__dict__:
        return False
    cls = original(module)
    gpt2 = cls.__name__ == "Conv1D" and cls.__module__ == "transformers.pytorch_utils"
    return (gpt2 or cls.forward is nn.Linear.forward) and type(weight) is nn.Parameter and weight.is_floating_point()


def dense(module: nn.Module) -> Tensor:
    """The weight as stored, dequantised where the layer is quantised, computed where it is parametrised."""
    if "weight" not in module._parameters:
        return cast(Tensor, module.weight)
    weight = cast(Tensor, module._parameters["weight"])
    if weight.is_floating_point():
        return weight
    undo = unpack(module)
    state = getattr(weight, "quant_state", None)
    if state is None or weight.shape[-1] != 1:
        raise Unsupported(
            f"the weight of a `{type(module).__name__}` is packed ({weight.dtype}, shape {tuple(weight.shape)}) and "
            "can't be read; delta and insert methods work on it, or load the base unquantised"
        )
    from bitsandbytes.functional import dequantize_4bit

    value = cast(Tensor, dequantize_4bit(weight.data, state))
    undo()
    return value


def unpack(module: nn.Module) -> Callable[[], None]:
    """Undo how bitsandbytes packs 4-bit weights for inference on a CPU: packed so, they lose gradients in silence.

    Returns how to put the packed ones back, as its own way there and back rounds them.
    """
    weight: Any = module._parameters.get("weight")
    state = getattr(weight, "quant_state", None)
    if not getattr(state, "packing_format_for_cpu", False):
        return lambda: None
    packed, kept = weight.data, copy.copy(state)
    module.state_dict()  # it unpacks them, to save them

    def undo() -> None:
        weight.data, weight.quant_state = packed, kept

    return undo


def _no_weight(kind: str, s: slice) -> Tensor:
    raise Unsupported(f"a `{kind}` has no weight of its own")


def _operation(module: nn.Module) -> tuple[Callable[..., Tensor], int]:
    """What this kind of layer does with a weight, and where its output features are."""
    if isinstance(module, nn.Embedding):
        # tables that scale their output do so in their own forward; what goes beside must be scaled alike
        factor = getattr(module, "embed_scale", None)

        def embed(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
            y = F.embedding(x, W.t())
            return y if factor is None else y * torch.as_tensor(factor, dtype=y.dtype)

        return embed, -1
    if isinstance(module, nn.modules.conv._ConvNd):
        conv = cast(Any, module)

        def convolve(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
            y: Tensor = conv._conv_forward(x, W, b)  # the layer's own geometry and padding mode
            return y

        return convolve, -1 - len(conv.kernel_size)
    return F.linear, -1


def view_of(model: nn.Module, target: Target) -> View:
    """The View of a target in a live model, without adapters: what a fresh adapter may look at."""
    if target.kind in {"experts", "experts_t"}:
        parameter = model.get_parameter(target.path).detach()
        return of_weight(parameter.transpose(1, 2) if target.transposed else parameter)
    view = base_view(model.get_submodule(target.path))
    return view.then(rows=lambda s: view.rows(s).detach())
