"""From what a person says to module paths: roles, patterns, types, paths.

`attn.q`, `mlp.down` ...   a role (`adaptr.roles`)
`all-linear`               every linear layer but the output head, and no router of experts
`type:LayerNorm`           every module of that class, or of a kind: `type:linear`
`*.layers.[0-3].*.q_proj`  a glob over paths (`*` crosses dots)
`re:.*layers\\.\\d+\\.fc1`   a regular expression that must match the whole path
`q_proj`, `lm_head`        the end of a path, on whole components
`attn.k|attn.qkv`          the first alternative that matches anything
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr import roles
from adaptr.adapter import Target, agree
from adaptr.errors import TargetMismatch, TargetNotFound

if TYPE_CHECKING:
    from torch import Tensor, nn

Spec = str | Sequence[str] | None


def resolve(model: nn.Module, spec: str | Sequence[str], kinds: Collection[str]) -> list[Target]:
    """The targets that `spec` names in `model`, of the given kinds, in the model's order.

    Each word of `spec` must match something, or `TargetNotFound` says so with near names.
    """
    words = [spec] if isinstance(spec, str) else list(spec)
    if set(kinds) == {"model"}:
        return [Target("", "model", (hidden_size(model),))]
    candidates = list(_candidates(model, kinds))
    chosen: dict[str, Target] = {}
    for word in words:
        found = next((f for w in _alternatives(word) if (f := _named(model, w, candidates))), [])
        if not found:
            raise TargetNotFound(_nothing(word, candidates, kinds))
        chosen.update({t.path: t for t in found})
    return [_with_size(model, t) for t in candidates if t.path in chosen]


def _with_size(model: nn.Module, target: Target) -> Target:
    if target.shape:
        return target
    size = _size(model, target.path, model.get_submodule(target.path), target.kind)
    return Target(target.path, target.kind, size)


def _alternatives(word: str) -> list[str]:
    return [word] if word.startswith("re:") else word.split("|")


def _named(model: nn.Module, word: str, candidates: list[Target]) -> list[Target]:
    if word in roles.ROLES or word in roles.PLACES or word == "attention":
        return _first_pattern(word, candidates)
    return [t for t in candidates if _matches(model, word, t)]


def _first_pattern(role: str, candidates: list[Target]) -> list[Target]:
    table = {**roles.ROLES, **roles.PLACES, "attention": roles.ATTENTION}
    for pattern in table[role]:
        expression = re.compile(roles.compiled(pattern))
        found = [t for t in candidates if expression.fullmatch(t.path)]
        if found:
            return found
    return []


def _matches(model: nn.Module, word: str, target: Target) -> bool:
    path = target.path
    if word == "all-linear":
        layer = target.kind in {"linear", "linear_t"} and not applies_own(type(module_at(model, target)))
        return layer and not is_head(model, path)
    if word.startswith("type:"):
        name = word[5:]
        return name == target.kind or name == type(module_at(model, target)).__name__.removeprefix("Adapted")
    if word.startswith("re:"):
        return re.fullmatch(word[3:], path) is not None
    if any(c in word for c in "*?["):
        return fnmatch.fnmatchcase(path, word)
    return path == word or path.endswith(f".{word}")


def override(path: str, overrides: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """The configuration fields that `overrides` gives for `path`; later patterns win."""
    found: dict[str, Any] = {}
    for pattern, values in (overrides or {}).items():
        if fnmatch.fnmatchcase(path, pattern) or path.endswith(f".{pattern}"):
            found.update(values)
    return found


def _candidates(model: nn.Module, kinds: Collection[str]) -> Iterator[Target]:
    """Everything in the model that is of one of these kinds."""
    whole = {"module", "attention"} & set(kinds)
    for path, module in model.named_modules():
        if not path or ".adapters" in f".{path}":
            continue
        if whole:
            # sizes are looked up for what is chosen, as only attentions have heads
            yield from (Target(path, kind, ()) for kind in sorted(whole))
            continue
        target = describe(path, module)
        if target is not None and target.kind in kinds:
            yield target
        if target is None and {"experts", "experts_t"} & set(kinds):
            yield from _expert_stacks(path, module, kinds)


def describe(path: str, module: nn.Module) -> Target | None:
    """A module as a target: its kind and logical shape, from its attributes, never from packed storage."""
    from torch import nn as layers

    cls = type(module).__name__
    if isinstance(module, layers.Linear):
        return Target(path, "linear", (module.out_features, module.in_features))
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
    if "norm" in cls.lower() and weight is not None and weight.ndim == 1:
        return Target(path, "norm", tuple(weight.shape))
    return None


def applies_own(cls: type[nn.Module]) -> bool:
    """Whether a class is no linear layer but applies its own `weight` as one does, among other things: a router."""
    own: Any = getattr(cls, "_adaptr_base", cls)
    return _applies_own(own)


@functools.cache
def _applies_own(cls: Any) -> bool:
    from torch.nn import Linear

    try:
        text = inspect.getsource(inspect.unwrap(cls.forward))
    except (OSError, TypeError):
        return False
    return not issubclass(cls, Linear) and re.search(r"\blinear\([^=;]*?,\s*self\.weight\b", text) is not None


def _expert_stacks(path: str, module: nn.Module, kinds: Collection[str]) -> Iterator[Target]:
    for name, parameter in module._parameters.items():
        if parameter is None or parameter.ndim != 3:
            continue
        transposed = bool(getattr(module, "is_transposed", False))
        e, a, b = parameter.shape
        kind = "experts_t" if transposed else "experts"
        if kind in kinds:
            yield Target(f"{path}.{name}", kind, (e, b, a) if transposed else (e, a, b))


def match(model: nn.Module, target: Target) -> None:
    """Raises `TargetNotFound` or `TargetMismatch` unless `model` has `target` as the adapter describes it."""
    found = _find(model, target)
    if found is None:
        names = [p for p, _ in model.named_parameters()] if "experts" in target.kind else _paths(model)
        raise TargetNotFound(f"the base has no `{target.path}`{_near(target.path, names)}")
    if found.kind != target.kind or not agree(found.shape, target.shape):
        raise TargetMismatch(
            f"`{target.path}` is a {found.kind} of shape {found.shape} in the base, "
            f"the adapter wants a {target.kind} of shape {target.shape}"
        )


def _find(model: nn.Module, target: Target) -> Target | None:
    if target.kind == "model":
        return Target("", "model", (hidden_size(model),))
    try:
        module = module_at(model, target)
    except AttributeError:
        return None
    if target.kind in {"module", "attention"}:
        return Target(target.path, target.kind, _size(model, target.path, module, target.kind))
    if target.kind in {"experts", "experts_t"}:
        stacks = _expert_stacks(target.path.rpartition(".")[0], module, {"experts", "experts_t"})
        return next((t for t in stacks if t.path == target.path), None)
    return describe(target.path, module)


def parameter(model: nn.Module, path: str) -> Tensor:
    """The parameter at `path`. Raises `TargetNotFound` with near names."""
    owner, _, name = path.rpartition(".")
    try:
        found = submodule(model, owner)._parameters.get(name)  # what stands there, whatever readers are given
    except AttributeError:
        found = None
    if found is None:
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        raise TargetNotFound(f"the base has no parameter `{path}`{_near(path, names)}")
    return found


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


def _paths(model: nn.Module) -> list[str]:
    return [path for path, _ in model.named_modules() if path and ".adapters" not in path]


def _near(path: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(path, names, n=1, cutoff=0.6)
    return f"; the nearest name is `{near[0]}`" if near else ""


def _nothing(word: str, candidates: list[Target], kinds: Collection[str]) -> str:
    if not candidates:
        return f"`{word}` matches nothing: the model has no {' or '.join(sorted(kinds))} at all"
    ends = sorted({t.path.rpartition(".")[2] for t in candidates})
    near = difflib.get_close_matches(word, {*ends, *roles.ROLES, *roles.PLACES} - {word}, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""
    return f"`{word}` matches none of the {len(candidates)} candidates{hint} Ends of paths: {', '.join(ends[:12])}"


def is_head(model: nn.Module, path: str) -> bool:
    """Whether `path` is the model's output head."""
    module = model.get_submodule(path)
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    return module is output or roles.has(path, "head")


# ---------------------------------------------------------------- sizes that come from the model's configuration


def text_config(model: nn.Module) -> Any:
    return _language(getattr(model, "config", None))


def _language(config: object) -> Any:
    """Of a model of several modes, the configuration of its language part."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _config_at(model: nn.Module, path: str) -> Any:
    """The configuration that holds at `path`: that of the innermost module around it that has one."""
    module, found = model, text_config(model)
    for name in path.split("."):
        module = module.get_submodule(name)
        own: Any = getattr(module, "config", None)
        found = found if own is None else _language(own)
    return found


def hidden_size(model: nn.Module) -> int:
    return _width(text_config(model))


def _width(config: object) -> int:
    size = _first(config, "hidden_size", "d_model", "n_embd", "dim")
    if size is None:
        raise TargetNotFound("the model's configuration has no hidden size, so it has no place for this method")
    return size


def attention_size(config: object, module: nn.Module) -> tuple[int, int]:
    """(key/value heads, width of a head) of an attention module: what it says of itself, else its configuration."""
    heads = _first(config, "num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads")
    if heads is None:
        raise TargetNotFound("the model's configuration has no number of attention heads")
    width = _first(module, "head_dim", "attention_head_size", "key_value_proj_dim", "head_size")
    width = width or _first(config, "head_dim", "d_kv") or _width(config) // heads
    keys = next((k for name in ("k_proj", "k", "key", "k_lin") if (k := module._modules.get(name)) is not None), None)
    out = _first(keys, "out_features")
    return out // width if out else _first(config, "num_key_value_heads") or heads, width


def _first(owner: object, *names: str) -> int | None:
    """The first of these attributes that is a number."""
    found = (getattr(owner, name, None) for name in names)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def _size(model: nn.Module, path: str, module: nn.Module, kind: str) -> tuple[int, ...]:
    config = _config_at(model, path)
    if kind == "attention":
        return attention_size(config, module)
    return (_first(module, "out_features", "nf") or _width(config),)
