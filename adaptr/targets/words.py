"""The targets that a person's words name in a model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr import roles
from adaptr.adapter import Target
from adaptr.adapter.weighting import Layers
from adaptr.errors import TargetNotFound, phrases
from adaptr.targets.modules import applies_own, describe, expert_stacks, is_attention, is_head, module_at
from adaptr.targets.sizes import hidden_size, size_at

if TYPE_CHECKING:
    from torch import nn

#: A word, and which layers of each stack are meant.
_SPAN = re.compile(r"(.+)@(\d+)-(\d+)")

Spec = str | Sequence[str] | None


def resolve(model: nn.Module, spec: str | Sequence[str], kinds: Collection[str]) -> list[Target]:
    """The targets that `spec` names in `model`, of the given kinds, in the model's order.

    Each word of `spec` must match something, or `TargetNotFound` says so with near names. What is wanted in attentions
    goes up to these from what lies in them.
    """
    words = [spec] if isinstance(spec, str) else list(spec)
    if set(kinds) == {"model"}:
        return [Target("", "model", (hidden_size(model),))]
    candidates = list(_candidates(model, kinds))
    chosen: dict[str, Target] = {}
    for word in words:
        found = next((f for w in _alternatives(word) if (f := _named(model, w, candidates))), [])
        if not found:
            raise _nothing(word, candidates, kinds)
        found = _around(model, word, found) if set(kinds) == {"attention"} else found
        chosen.update({t.path: t for t in found})
    return [_with_size(model, t) for t in candidates if t.path in chosen]


def _with_size(model: nn.Module, target: Target) -> Target:
    if target.shape:
        return target
    size = size_at(model, target.path, model.get_submodule(target.path), target.kind)
    return Target(target.path, target.kind, size)


def _alternatives(word: str) -> list[str]:
    return [word] if word.startswith("re:") else word.split("|")


def _named(model: nn.Module, word: str, candidates: list[Target]) -> list[Target]:
    span = None if word.startswith("re:") else _SPAN.fullmatch(word)
    if span is not None:  # those of layers 2 to 5 of each stack: `attn.q@2-5`
        word, first, last = span.groups()
        found = _named(model, word, candidates)
        layers = Layers(t.path for t in found)
        return [t for t in found if (n := layers.number(t.path)) is not None and int(first) <= n <= int(last)]
    if word in roles.ALL:
        return _first_pattern(word, candidates)
    return [t for t in candidates if _matches(model, word, t)]


def _first_pattern(role: str, candidates: list[Target]) -> list[Target]:
    for pattern in roles.ALL[role]:
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


def _candidates(model: nn.Module, kinds: Collection[str]) -> Iterator[Target]:
    """Everything in the model that is of one of these kinds; what is a layer of one of them is no place beside that."""
    whole = {"module", "attention"} & set(kinds)
    layers = set(kinds) - whole
    for path, module in model.named_modules():
        if not path or ".adapters" in f".{path}":
            continue
        target = describe(path, module) if layers else None
        if target is not None and target.kind in layers:
            yield target
            continue
        if whole:
            # sizes are looked up for what is chosen, as only attentions have heads
            yield from (Target(path, kind, ()) for kind in sorted(whole))
            continue
        if target is None and {"experts", "experts_t"} & set(kinds):
            yield from expert_stacks(path, module, kinds)


def _around(model: nn.Module, word: str, found: list[Target]) -> list[Target]:
    """The attentions that modules are, or are in. Raises `TargetNotFound` where there is none."""
    there = [path for path, module in model.named_modules() if path and is_attention(path, module)]
    inside = {path: _innermost(path, there) for path in (t.path for t in found)}
    if not any(inside.values()):
        ends = sorted({path.rpartition(".")[2] for path in there})
        raise TargetNotFound(
            f"`{word}` matches {len(found)} modules, none of which is an attention or in one, where this method goes",
            hint=f"say `attention`, or what ends in {phrases.listed(ends)}" if ends else "choose another method",
        )
    return [replace(found[0], path=path) for path in dict.fromkeys(inside.values()) if path]


def _innermost(path: str, there: Collection[str]) -> str:
    return max((one for one in there if f"{path}.".startswith(f"{one}.")), key=len, default="")


def _nothing(word: str, candidates: list[Target], kinds: Collection[str]) -> TargetNotFound:
    if not candidates:
        lack = f"`{word}` matches nothing: the model has no {' or '.join(sorted(kinds))} at all"
        return TargetNotFound(lack, hint="choose another method")
    ends = sorted({t.path.rpartition(".")[2] for t in candidates})
    fact = f"`{word}` matches none of the {len(candidates)} candidates"
    asked = [one for one in _alternatives(word) if one in roles.ALL]
    if asked:
        there = phrases.listed(f"`{role}`" for role in roles.ALL if _first_pattern(role, candidates))
        fact += f": the model has no `{asked[-1]}` that is known by its name"
        return TargetNotFound(fact, hint=f"it has {there or 'none'}, and paths that end in {phrases.listed(ends)}")
    question = phrases.meant(word, {*ends, *roles.ALL})
    return TargetNotFound(fact, hint=f"{question}{question and ' '}Ends of paths: {phrases.listed(ends)}")


def override(path: str, overrides: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """The configuration fields that `overrides` gives for `path`; later patterns win."""
    found: dict[str, Any] = {}
    for pattern, values in (overrides or {}).items():
        if fnmatch.fnmatchcase(path, pattern) or path.endswith(f".{pattern}"):
            found.update(values)
    return found
