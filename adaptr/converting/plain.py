"""Any change of low rank as LoRA of one rank and scale 1, cut where it must be, with the error measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.algebra.lowrank import LowRank
from adaptr.changes.deltas import Deltas, deltas
from adaptr.changes.plan import members
from adaptr.contract.capabilities import LOW_RANK
from adaptr.errors import NotPossible, Unsupported
from adaptr.plugins import method
from adaptr.results import storing

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def require_servable(adapter: Adapter, server: str) -> None:
    """Raises `Unsupported` for what is no change of linear layers."""
    for _, part, _ in members(adapter):
        if not method(part.method).can.delta:
            raise Unsupported(
                f"`{server}` loads plain LoRA alone, and `{part.method}` of `{adapter.label}` is none",
                hint="where it has a weight, `adaptr convert --method lora --rank R --base BASE` "
                "first, which measures the error",
            )
        other = next((t for t in part.targets.values() if not t.is_linear), None)
        if other is not None:
            raise Unsupported(
                f"`{other.path}` is of kind `{other.kind}`, and `{server}` gets LoRA on linear layers alone",
                hint="leave that target out, or merge the adapter",
            )
    whole = [key[:-2] for key in adapter.tensors if key.endswith(":=")]
    if whole:
        raise Unsupported(
            f"`{adapter.label}` replaces `{whole[0]}` as a whole (`modules_to_save`), which `{server}` does not load",
            hint="`adaptr merge` writes a checkpoint with it",
        )


def plain(adapter: Adapter, most: int, dtype: torch.dtype | None) -> tuple[Adapter, float]:
    """The same change as LoRA of one rank, scale 1, and the relative error."""
    changes = deltas(adapter)
    if changes.biases:
        path = next(iter(changes.biases))
        raise Unsupported(
            f"`{adapter.label}` changes the bias of `{path}`, which no server loads", hint="merge it (`adaptr merge`)"
        )
    pairs, error = _cut(changes, most, dtype)
    r = max(A.shape[0] for A, _ in pairs.values())
    config = {"r": r, "alpha": float(r)}
    targets: dict[str, Target] = {}
    tensors: dict[str, Tensor] = {}
    for path, (A, B) in pairs.items():
        from torch.nn.functional import pad

        fill = r - A.shape[0]
        targets[path] = dataclasses.replace(changes.targets[path], config=_config(config))
        tensors[f"{path}:A"], tensors[f"{path}:B"] = pad(A, (0, 0, 0, fill)), pad(B, (0, fill))
    return Adapter(
        plugins.default(LOW_RANK), _config(config), targets, tensors, base=adapter.base, name=adapter.name
    ), error


def _config(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(vars(method(plugins.default(LOW_RANK)).config(values)))


def _cut(changes: Deltas, most: int, dtype: torch.dtype | None) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
    """(A, B with the scale in it) of each target as they are stored, and the relative error of them all."""
    pairs, lost, total = {}, 0.0, 0.0
    for path in changes:
        op = changes[path]
        try:
            found = op.low_rank()
        except NotPossible:
            found = None
        if found is None and not most:
            raise Unsupported(f"the change of `{path}` has no low rank", hint="give --rank, and its error is measured")
        size = op.norm() ** 2
        total += size
        if found is None or (most and found.A.shape[0] > most):
            found, error = op.truncate(rank=most)
            lost += error * error * size
        B, A = found.factors(found.dtype)
        stored = {"A": A.contiguous(), "B": (B * found.scale).contiguous()}
        stored = {name: storing.cast(tensor, dtype, path) for name, tensor in stored.items()}
        lost += storing.lost(found, LowRank(stored["B"], stored["A"]), size)
        pairs[path] = stored["A"], stored["B"]
    return pairs, math.sqrt(lost / total) if total else 0.0
