"""From operators back to an adapter: `lora` where all of them are low-rank, `bitfit` where only biases change, and
`full`, a task vector, otherwise. Scales go into the tensors: alpha is the rank. Deltas are stored in fp32, or in fp64
where they come from that, unless another dtype is asked for; biases are few and stay so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import REPLACED, Adapter, Base, Target
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.contract.capabilities import BIAS, DENSE, LOW_RANK
from adaptr.errors import NoDelta, NothingChanged
from adaptr.results.storing import cast

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def assemble(
    operators: Mapping[str, Operator],
    targets: Mapping[str, Target],
    *,
    biases: Mapping[str, Tensor] | None = None,
    replaced: Mapping[str, Tensor] | None = None,
    base: Base | None = None,
    name: str = "",
    lineage: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    method: str | None = None,
) -> Adapter:
    """An adapter with W' = W + D at each of `targets`, their paths being the keys of all three mappings.

    `biases`: what is added to the bias at a target. `replaced`: parameter path to the whole new tensor. `dtype`: what
    the deltas are stored in, None for what they come in. `method`: one that can be written from these operators, None
    for the one that is written where none is asked for. Raises `NothingChanged` for no change at all, `NoDelta` for a
    bias at a place that the method can't hold one, `NonFinite` for what `dtype` can't hold.
    """
    biases = biases or {}
    if not operators and not biases and not replaced:
        raise NothingChanged(
            "there is neither a delta nor a bias nor a replaced parameter to put into an adapter",
            hint="keep more: give a higher rank, or drop less",
        )
    low = all(isinstance(op, LowRank) for op in operators.values())
    method = method or fitting(bool(operators), bool(biases), low)
    chosen: dict[str, Target] = {}
    tensors: dict[str, Tensor] = {}
    for path, target in targets.items():
        if path in operators or path in biases:
            chosen[path], found = place(method, target, operators.get(path), biases.get(path), dtype)
            tensors.update({f"{path}:{key}": tensor for key, tensor in found.items()})
    tensors.update({f"{path}:{REPLACED}": tensor for path, tensor in (replaced or {}).items()})
    return Adapter(
        method=method,
        version=plugins.method(method).version,
        config=shared_config(method, chosen),
        targets=chosen,
        tensors=tensors,
        base=base or Base(),
        name=name,
        lineage=lineage or {},
    )


def fitting(deltas: bool, biases: bool, low: bool) -> str:
    """The method for what there is: deltas of weights (low-rank ones?), changes of biases, or neither."""
    form = (LOW_RANK if low else DENSE) if deltas else BIAS if biases else LOW_RANK
    return plugins.default(form)


def place(
    method: str, target: Target, op: Operator | None, bias: Tensor | None, dtype: torch.dtype | None = None
) -> tuple[Target, dict[str, Tensor]]:
    """(the target with its configuration, the tensors) of `method` for a delta, a change of the bias, or both."""
    config, tensors = _at(method, target, op, bias, dtype)
    return replace(target, config=vars(plugins.method(method).config(config)).copy()), tensors


def _at(
    method: str, target: Target, op: Operator | None, bias: Tensor | None, dtype: torch.dtype | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    made = plugins.method(method)
    if op is None and made.can.forms != {BIAS}:
        op = _nothing(method, target, bias)
    config, tensors = made.written(op, bias)
    return config, {name: t if t is bias else cast(t, dtype, target.path) for name, t in tensors.items()}


def _nothing(method: str, target: Target, bias: Tensor | None) -> Operator:
    """No change of the weight, for a target whose bias changes."""
    import torch

    if not target.is_matrix or 0 in target.shape:
        raise NoDelta(
            f"only the bias of `{target.path}` ({target.kind}) changes, and `{method}` can't hold that there",
            hint="compose the biases apart (`bitfit`)",
        )
    assert bias is not None
    out, into, *kernel = target.shape
    ones = (1 for _ in kernel)
    return LowRank(bias.new_zeros(out, 1, *ones), torch.zeros((1, into, *kernel), dtype=bias.dtype))


def shared_config(method: str, targets: Mapping[str, Target]) -> dict[str, Any]:
    """The configuration of the adapter as a whole: that of the target of the highest rank."""
    widest = max(targets.values(), key=lambda t: t.config.get("r", 0), default=None)
    return dict(widest.config) if widest is not None else vars(plugins.method(method).config({})).copy()
