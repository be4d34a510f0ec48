"""Several of a sort in one of AdapterHub's stacks, as the one adapter that does the same.

Its LoRAs are not added: the second gets what the first puts out, D = D₂ D₁. Vectors of (IA)3 are multiplied, and of
prefixes the last stands first. Two of different sorts on one weight it combines by the rule of the last, which is the
function of neither.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.algebra.lowrank import LowRank
from adaptr.errors import Unsupported, shown

if TYPE_CHECKING:
    from torch import Tensor

#: What is in a layer's weight.
_WEIGHTS = frozenset({"lora", "gated-lora", "dora", "ia3"})
#: Of which its library takes that of the first adapter alone.
_FIRST = {"loreft": "an intervention", "noreft": "an intervention", "direft": "an intervention", "prompt": "a prompt"}
_ALONE = "load each alone, and attach one after the other"


def one(children: Mapping[str, Adapter]) -> dict[str, Adapter]:
    """The adapters of a stack by name, those of a sort that stands there once. Raises `Unsupported`."""
    found: dict[str, Adapter] = {}
    for method, join in _JOINED.items():
        same = [name for name, child in children.items() if child.method == method]
        if len(same) > 1:
            joined = functools.reduce(join, (children[name] for name in same))
            found |= {same[0]: joined, **dict.fromkeys(same[1:])}  # type: ignore[dict-item]
    left = {name: found.get(name, child) for name, child in children.items()}
    left = {name: child for name, child in left.items() if child is not None}
    _require_apart(left)
    return left


def require_first(members: Sequence[Adapter]) -> None:
    """Raises `Unsupported` for what its library leaves out of all but the first of several."""
    for member in members[1:]:
        for method in [member.method, *(part.method for part in member.parts.values())]:
            if method in _FIRST:
                raise Unsupported(
                    f"`{member.label}` has {_FIRST[method]}, which AdapterHub leaves out of all but the first of "
                    "several",
                    hint="put it first, or load each alone",
                )


def _require_apart(children: Mapping[str, Adapter]) -> None:
    there: dict[str, str] = {}
    for child in children.values():
        if child.method in _WEIGHTS:
            shared = next((path for path in child.targets if path in there), None)
            if shared is not None:
                raise Unsupported(
                    f"`{shown(shared)}` has `{there[shared]}` and `{child.method}`, which AdapterHub puts on each "
                    "other in a way of its own",
                    hint=_ALONE,
                )
            there |= dict.fromkeys(child.targets, child.method)


def _each(
    first: Adapter, second: Adapter, joined: Callable[[str, Target, Target], tuple[dict[str, Any], dict[str, Tensor]]]
) -> Adapter:
    """The targets of both; of those that both have, what is made of them."""
    targets, tensors = {**first.targets, **second.targets}, {**first.tensors, **second.tensors}
    config = dict(first.config)
    for path in [path for path in first.targets if path in second.targets]:
        config, made = joined(path, first.targets[path], second.targets[path])
        targets[path] = replace(first.targets[path], config=config)
        tensors |= {f"{path}:{name}": tensor for name, tensor in made.items()}
    return first.replace(config=config, targets=targets, tensors=tensors)


def _lora(first: Adapter, second: Adapter) -> Adapter:
    def joined(path: str, one: Target, other: Target) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if one.shape[0] != other.shape[1]:
            raise Unsupported(
                f"`{shown(path)}`: AdapterHub gives the second LoRA of a stack what the first puts out, and this one "
                f"is of {other.shape[1]} inputs behind {one.shape[0]} outputs",
                hint=_ALONE,
            )
        a, b = (found[path].low_rank() for found in (first, second))
        inner = b.A.double() @ a.B.double() * (a.scale * b.scale)
        low = LowRank((b.B.double() @ inner).float(), a.A) if len(a.A) <= len(b.A) else LowRank(
            b.B, (inner @ a.A.double()).float()
        )  # fmt: skip
        said, tensors = plugins.method("lora").written(low, None)
        return {**one.config, **said}, tensors

    return _each(first, second, joined)


def _ia3(first: Adapter, second: Adapter) -> Adapter:
    return _each(
        first,
        second,
        lambda path, one, other: (dict(one.config), {"l": first.at(path)["l"] * second.at(path)["l"]}),
    )


def _prefix(first: Adapter, second: Adapter) -> Adapter:
    import torch

    def joined(path: str, one: Target, other: Target) -> tuple[dict[str, Any], dict[str, Tensor]]:
        mine, theirs = first.at(path), second.at(path)
        rows = {name: torch.cat([theirs[name], mine[name]], 1) for name in mine}
        return {**one.config, "tokens": rows["K"].shape[1]}, rows

    return _each(first, second, joined)


_JOINED: Mapping[str, Callable[[Adapter, Adapter], Adapter]] = {"lora": _lora, "ia3": _ia3, "prefix": _prefix}
