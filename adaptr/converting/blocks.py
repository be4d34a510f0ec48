"""Layers that a server wants beside those of an adapter: filled up with zeros, which changes nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr import targets as places
from adaptr.checkpoint.skeleton import skeleton
from adaptr.errors import Unsupported
from adaptr.serving.profile import Profile
from adaptr.serving.seen import Base

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter, Target

#: The number of a block in a layer's path.
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def completed(adapter: Adapter, base: nn.Module | Path | None, known: Profile) -> Adapter:
    """Plain LoRA `adapter` with zeros where the server wants a layer that it does not have: a kind of layer in each
    block, one beside another.

    Raises `Unsupported` where layers are missing and there is no base that says their sizes.
    """
    wanted = [*_beside(adapter, known), *(_in_blocks(adapter, base) if known.writing.every_block else ())]
    if not wanted:
        return adapter
    if base is None:
        raise Unsupported(
            f"`{adapter.label}` has no `{wanted[0]}`, without which {known.tool} would take no part of it",
            hint="with `--base` zeros fill it up",
        )
    model = skeleton(base)
    targets, tensors = dict(adapter.targets), dict(adapter.tensors)
    like = next(iter(targets.values()))
    for path in wanted:
        target = _described(model, path)
        targets[path] = replace(target, config=like.config)
        out, into = target.shape
        tensors[f"{path}:A"] = tensors[f"{like.path}:A"].new_zeros(adapter.config["r"], into)
        tensors[f"{path}:B"] = tensors[f"{like.path}:B"].new_zeros(out, adapter.config["r"])
    return adapter.replace(targets=targets, tensors=tensors)


def _described(model: nn.Module, path: str) -> Target:
    try:
        found = places.describe(path, places.submodule(model, path))
    except AttributeError:
        found = None
    if found is None or not found.is_linear:
        raise Unsupported(
            f"the server wants LoRA at `{path}` too, and the base has no linear layer there",
            hint="leave the layers out beside which it would be, or merge the adapter (`adaptr merge`)",
        )
    return found


def _beside(adapter: Adapter, known: Profile) -> Iterator[str]:
    """The layers that must stand beside others."""
    for path in adapter.targets:
        owner, dot, name = path.rpartition(".")
        other = owner + dot + known.writing.together.get(name, name)
        if other not in adapter.targets:
            yield other


def _in_blocks(adapter: Adapter, base: nn.Module | Path | None) -> Iterator[str]:
    """The layers whose kind is in other blocks of the model."""
    kinds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for path in adapter.targets:
        number = NUMBER.search(path)
        if number is not None:
            kinds[path[: number.start()], path[number.end() :]].add(int(number[0]))
    layers = 0 if base is None else Base.of(base).layers
    count = layers or max((max(numbers) + 1 for numbers in kinds.values()), default=0)
    for (before, after), numbers in kinds.items():
        yield from (f"{before}{number}{after}" for number in sorted(set(range(count)) - numbers))
