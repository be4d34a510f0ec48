"""Targets of a PEFT file in a base model: kinds that only the base knows, attention modules, natural order."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.adapter.target import agree
from adaptr.errors import ConfigConflict, ConfigMissing, TargetMismatch, TargetNotFound, phrases

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.networks import Spelling

_TABLE = re.compile(r"(.*\.)?(emb|embed\w*|\w*embeddings?|wte|wpe)", re.DOTALL)


def agreed(model: nn.Module | None, target: Target) -> Target:
    """`target` with kind and sizes as the base has them. Raises `TargetNotFound` or `TargetMismatch`."""
    if model is None:
        return target
    from adaptr import targets as places
    from adaptr.host.experts import part_of

    part = part_of(model, target)
    if part is not None:
        shape = (part.rows.stop - part.rows.start, model.get_parameter(part.path).shape[2])
        return dataclasses.replace(target, shape=shape)
    there, found = _described(model, target)
    if found is None:
        if _elsewhere(model, target.path) is not None:
            return target  # joined with others or cut apart: where the rows are is the base's, and looked at there
        places.match(model, there)  # says which name is near
        raise TargetNotFound(f"`{target.path}` is no layer of the base that can be adapted", hint=phrases.BASE)
    places.match(model, dataclasses.replace(there, kind=found.kind))
    return dataclasses.replace(found, path=target.path, config=target.config)


def output(model: nn.Module | None, target: Target) -> Target:
    """`target`, a module's output. Raises `TargetNotFound` or `TargetMismatch` where the base has none of its size."""
    if model is not None:
        from adaptr import targets as places

        places.match(model, _described(model, target)[0])
    return target


def flattened(model: nn.Module | None, target: Target) -> Target:
    """`target` with the kernel that the base has: its shape (out, in*k), 0 for unknown, is of flattened factors."""
    if model is None:
        return target
    _, found = _described(model, target)
    if found is None or len(found.shape) < 3 or not agree(_flat(found.shape), target.shape):
        return agreed(model, target)
    return dataclasses.replace(found, path=target.path, config=target.config)


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def axes(path: str, slot: str, shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    """`shape`, which a tensor in a file has. Raises `ConfigConflict` unless it has so many axes, and none is empty."""
    if len(shape) != count or 0 in shape:
        raise ConfigConflict(
            f"`{slot}` of `{path}`", verb="has", got=f"shape {shape}", want=f"{count} axes", hint=phrases.AGAIN
        )
    return shape


def biased(model: nn.Module | None, target: Target) -> Target:
    """`target`, of which only the outputs are known, as the base has it. Raises a `WrongBase` unless it has a bias."""
    if model is None:
        return target
    there, found = _described(model, target)
    if found is None or not found.biased or found.shape[:1] != target.shape[:1]:
        raise TargetNotFound(
            f"`{there.path}` is no layer of the base with a bias of {target.shape[0]}", hint=phrases.BASE
        )
    return dataclasses.replace(found, path=target.path, config=target.config)


def parameter(model: nn.Module, path: str, shape: tuple[int, ...]) -> Tensor:
    """The value of the base's parameter. Raises a `WrongBase` where it has none of that shape that can be read."""
    found = shaped(model, path, shape)
    if found.is_meta:
        raise ConfigMissing(f"`{path}`: the base's values are needed", hint="give it as a live model")
    return found.detach()


def shaped(model: nn.Module, path: str, shape: tuple[int, ...]) -> Tensor:
    """The base's parameter. Raises a `WrongBase` where it has none of that shape."""
    try:
        found = model.get_parameter(path)
    except AttributeError:
        raise TargetNotFound(f"the base has no parameter `{path}`", hint=phrases.BASE) from None
    if tuple(found.shape) != shape:
        raise TargetMismatch(f"`{path}`", verb="has", got=str(tuple(found.shape)), want=str(shape), hint=phrases.BASE)
    return found


def kernel(model: nn.Module, target: Target) -> tuple[int, ...]:
    """The kernel that the base has at `target`, under whatever name. Raises `TargetNotFound` for no convolution."""
    _, found = _described(model, target)
    if found is None or len(found.shape) < 3:
        raise TargetNotFound(
            f"`{target.path}` is no convolution of the base, which the file's core is of", hint=phrases.BASE
        )
    return found.shape[2:]


def _described(model: nn.Module, target: Target) -> tuple[Target, Target | None]:
    """`target` under the name that the base has for it, and what is there."""
    from adaptr import targets as places
    from adaptr.host.names import renamings

    path = renamings(model, {target.path: target}).get(target.path, target.path)
    other = _elsewhere(model, path)
    if other is not None and len(other.paths) == 1 and other.part is None:
        path = other.paths[0]
    try:
        found = places.describe(path, model.get_submodule(path))
    except AttributeError:
        found = None
    return dataclasses.replace(target, path=path), found


def _elsewhere(model: nn.Module, path: str) -> Spelling | None:
    """What the base calls a module of an image model in another library's words, where it has not that very name."""
    from adaptr.networks import spellings

    if _has(model, path):
        return None
    return next((one for one in spellings(path) if all(_has(model, other) for other in one.paths)), None)


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def needed(model: nn.Module | None, path: str, why: str) -> nn.Module:
    """The base. Raises `ConfigMissing` saying why the file is not enough."""
    if model is None:
        raise ConfigMissing(f"`{path}`: {why}", hint="give the base (`--base`, a folder with its `config.json`)")
    return model


def place(model: nn.Module | None, path: str, why: str) -> Target:
    """The layer at `path` as the base has it, of which the file says no size; `why` as `needed` says it."""
    return agreed(needed(model, path, why), Target(path, kinds.LINEAR, (0, 0)))


def in_order(model: nn.Module | None, paths: Collection[str], why: str) -> list[str]:
    """`paths` in the order of the base; `why` as `needed` says it. Raises `TargetNotFound` for what it has not."""
    found = [name for name, _ in needed(model, next(iter(paths), ""), why).named_modules() if name in paths]
    gone = next((path for path in paths if path not in found), None)
    if gone is not None:
        raise TargetNotFound(f"the base has no module `{gone}`", hint=phrases.BASE)
    return found


def attention(model: nn.Module | None, target: Target) -> Target:
    """`target`, an attention, as the base has it. Raises `TargetNotFound` where that has none."""
    if model is None:
        return target
    from adaptr import targets as places

    found = places.resolve(model, rf"re:(.*\.)?{re.escape(target.path)}", {kinds.ATTENTION})
    return dataclasses.replace(found[0], path=target.path, config=target.config)


def stacks(model: nn.Module, owner: str) -> list[Target]:
    """The expert stacks of the module at `owner`, in the order in which it has them."""
    from adaptr import targets as places

    return places.resolve(model, rf"re:{re.escape(owner)}\.[^.]+", kinds.STACKS)


def is_table(path: str) -> bool:
    """Whether models call a table of tokens so, where no base says what a module is."""
    return _TABLE.fullmatch(path) is not None


def ordered(paths: Iterable[str]) -> list[str]:
    """Paths with their numbers counted, not spelled: layer 2 before layer 10."""
    return sorted(paths, key=lambda path: [(int(n) if n.isdigit() else -1, n) for n in re.split(r"(\d+)", path)])
