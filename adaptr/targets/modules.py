"""What a module of a model is as a target, and the modules and parameters that targets are."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from adaptr import roles
from adaptr.adapter import Target, kinds
from adaptr.contract.sketch import Drawn
from adaptr.errors import Unsupported
from adaptr.targets.sizes import hidden_size

if TYPE_CHECKING:
    from torch import nn


def describe(path: str, module: nn.Module | Drawn) -> Target | None:
    """A module as a target: its kind and logical shape, from its attributes, never from packed storage."""
    if isinstance(module, Drawn):
        return Target(path, module.kind, module.shape) if module.kind else None
    from torch import nn as layers

    cls = type(module).__name__
    if isinstance(module, layers.Linear) or _holds_codes(module):
        # transformers keeps what it packed: a Conv1D, whose files have its weight the other way round
        packed = getattr(module, "source_cls", cls)
        kind = "linear_t" if getattr(packed, "__name__", "").endswith("Conv1D") else "linear"
        return Target(path, kind, (module.out_features, module.in_features))  # type: ignore[arg-type]
    if cls.endswith("Conv1D") and hasattr(module, "nf"):
        into, out = module._parameters["weight"].shape  # type: ignore[union-attr]
        return Target(path, "linear_t", (out, into))
    if isinstance(module, layers.Embedding):
        return Target(path, "embedding", (module.embedding_dim, module.num_embeddings))
    if isinstance(module, layers.Conv1d | layers.Conv2d | layers.Conv3d) and not module.transposed:
        kernel = module.kernel_size
        return Target(path, f"conv{len(kernel)}d", (module.out_channels, module.in_channels // module.groups, *kernel))
    weight = module._parameters.get("weight")
    if weight is not None and weight.ndim == 2 and applies_own(type(module)):
        return Target(path, "linear", tuple(weight.shape))
    if weight is not None and is_norm(module):
        return Target(path, "norm", tuple(weight.shape))
    return None


def is_norm(module: nn.Module) -> bool:
    """Whether a module scales each feature by a weight of its own, as norms do."""
    own: Any = getattr(type(module), "_adaptr_base", type(module))
    weight = module._parameters.get("weight")
    return "norm" in own.__name__.lower() and weight is not None and weight.ndim == 1


def _holds_codes(module: nn.Module) -> bool:
    """Whether a module is a linear layer in codes, of GPTQ, AWQ or HQQ, and none of torch's."""
    held = module._buffers.get("qweight") is not None or module._parameters.get("W_q") is not None
    return held and all(isinstance(getattr(module, name, None), int) for name in ("in_features", "out_features"))


def applies_own(cls: type[nn.Module]) -> bool:
    """Whether a class is no linear layer but applies its own `weight` as one does, among other things: a router."""
    own: Any = getattr(cls, "_adaptr_base", cls)
    return _applies_own(own)


@functools.cache
def _applies_own(cls: type[nn.Module]) -> bool:
    if issubclass(cls, Drawn):
        return False
    from torch.nn import Linear

    try:
        text = inspect.getsource(inspect.unwrap(cls.forward))
    except (OSError, TypeError):
        return False
    return not issubclass(cls, Linear) and re.search(r"\blinear\([^=;]*?,\s*self\.weight\b", text) is not None


def is_attention(path: str, module: nn.Module) -> bool:
    """Whether a module is an attention, by its name or because it asks transformers' registry for its function, as
    models do to set it.
    """
    own: Any = getattr(type(module), "_adaptr_base", type(module))
    return roles.has(path, "attention") or (asks_registry(own) and not hasattr(own, "set_attn_implementation"))


@functools.cache
def asks_registry(cls: type[object]) -> bool:
    """Whether an attention asks transformers' registry for its function; taken for granted where no source is."""
    if issubclass(cls, Drawn):
        return False
    from torch.nn import Module

    own = cls.__mro__[: cls.__mro__.index(Module)]
    try:
        return any("ALL_ATTENTION_FUNCTIONS" in inspect.getsource(one) for one in own)
    except (OSError, TypeError):
        return True


def expert_stacks(path: str, module: nn.Module, wanted: Collection[str]) -> Iterator[Target]:
    """The stacks of experts that a module has as parameters of its own, of the wanted kinds."""
    for name, parameter in module._parameters.items():
        if parameter is None or parameter.ndim != 3:
            continue
        transposed = bool(getattr(module, "is_transposed", False))
        e, a, b = parameter.shape
        kind = "experts_t" if transposed else "experts"
        if kind in wanted:
            yield Target(f"{path}.{name}", kind, (e, b, a) if transposed else (e, a, b))


def module_at(model: nn.Module, target: Target) -> nn.Module:
    """The module of a target: itself, or the owner of a raw parameter. Raises `AttributeError` if there is none."""
    path = target.path.rpartition(".")[0] if target.kind in {"experts", "experts_t"} else target.path
    return submodule(model, path)


def submodule(model: nn.Module, path: str) -> nn.Module:
    """As `model.get_submodule(path)`, at a tenth of its time: an attach asks for hundreds."""
    found: nn.Module | None = model
    for name in path.split(".") if path else ():
        found = found._modules.get(name) if found is not None else None
    if found is None:
        raise AttributeError(f"no module `{path}`")
    return found


def words_of(model: nn.Module) -> nn.Module:
    """The table in which a model, or the encoder of two stacks, looks up what it reads. Raises `Unsupported` for one
    that reads no ids, or whose rows are narrower than the model.
    """
    found: Any = model
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        found = model.get_encoder()  # type: ignore[operator]
    try:
        table: Any = found.get_input_embeddings()
    except NotImplementedError:  # a model of several towers
        table = None
    rows = None if table is None else describe("", table)
    if rows is None or rows.kind != kinds.TABLE:
        raise Unsupported(
            f"a prompt goes in front of the embeddings of a text, and a `{type(found).__name__}` looks none up",
            hint="choose a method that works on weights, on outputs or on attention",
        )
    width = hidden_size(model)
    if rows.shape[0] != width:
        raise Unsupported(
            f"a prompt has rows as wide as the model, {width}, and a `{type(found).__name__}` widens the embeddings of "
            f"its text from {rows.shape[0]} later",
            hint="choose a method that works on weights, on outputs or on attention",
        )
    return table  # type: ignore[no-any-return]


def is_head(model: nn.Module, path: str) -> bool:
    """Whether `path` is the model's output head."""
    module = model.get_submodule(path)
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    return module is output or roles.has(path, "head")
