"""Adapters stored in fewer bits. Factors are quantised, never products; vectors stay as they are.

`fp16`, `bf16`: a cast. `int8`: symmetric, one scale for each index of the rank axis (of the first axis where there is
none), so that the error of a rank-1 term stays inside it. Scales are fp32 under `<param>.scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter.dequantize import SCALE
from adaptr.errors import NonFinite, UsageError
from adaptr.families.fidelity import declared

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.families.base import Method

CASTS = {"fp16": "float16", "bf16": "bfloat16"}
SCHEMES = (*CASTS, "int8")


def quantize(method: Method, adapter: Adapter, scheme: str) -> Adapter:
    """`adapter` with its tensors in `scheme`, and the error of what it does declared, as `fidelity` says it.

    Of what is quantised already, the error declared bounds that against the first original. Raises `NonFinite` for NaN
    and infinity, and for what `scheme` is too narrow for.
    """
    if scheme not in SCHEMES:
        raise UsageError("the quantisation scheme", got=f"`{scheme}`", want=f"one of {', '.join(SCHEMES)}")
    tensors: dict[str, Tensor] = {k: v for k, v in adapter.tensors.items() if k.endswith(":=")}
    for path, target in adapter.targets.items():
        for name, tensor in adapter.at(path).items():
            key = method.key(path, name)
            if key in tensors:  # shared, and there already
                continue
            if not method.params[name].trains:  # places and seeds of projections mean nothing when rounded
                tensors[key] = tensor
                continue
            stored = _stored(tensor, scheme, _rank_axis(method, name, vars(method.config(target.config))))
            _require_finite(key, scheme, tensor, *stored.values())
            tensors.update({f"{key}{suffix}": value for suffix, value in stored.items()})
    made = adapter.replace(tensors=tensors, quantization={"scheme": scheme})
    return made.replace(quantization={"scheme": scheme, **declared(method, adapter, made)})


def _require_finite(key: str, scheme: str, *tensors: Tensor) -> None:
    import torch

    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise NonFinite(
            f"`{key}` holds NaN or infinity, or would in `{scheme}`",
            hint="use a wider scheme, or look at it with `adaptr inspect`",
        )


def _stored(tensor: Tensor, scheme: str, axis: int) -> dict[str, Tensor]:
    """What is written for one tensor, by suffix of its name."""
    import torch

    if scheme in CASTS:
        return {"": tensor.to(getattr(torch, CASTS[scheme]))}
    if tensor.ndim < 2:
        return {"": tensor}
    others = [i for i in range(tensor.ndim) if i != axis]
    scale = tensor.float().abs().amax(dim=others, keepdim=True) / 127
    scale = scale.where(scale > 0, 1.0)
    # a scale so small that it is rounded itself could send a number past what a byte holds
    return {"": (tensor.float() / scale).round().clamp(-127, 127).to(torch.int8), SCALE: scale}


def _rank_axis(method: Method, name: str, config: Mapping[str, Any]) -> int:
    tokens = method.params[name].tokens(config)
    plain = [t for t in tokens if t not in {"*k", "*e", "*1"}]
    own = [t for t in plain if t not in {"out", "in", "d", "h"} and not t.isdigit()]
    return tokens.index(own[0]) if own and "*e" not in tokens else 0
