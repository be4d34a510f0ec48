"""Adapters stored in fewer bits. Factors are quantised, never products; vectors stay as they are.

`fp16`, `bf16`: a cast. The others (`adaptr.families.encoding`) have scales, or blocks, for each index of the rank axis
(of the first axis where there is none), so that the error of a rank-1 term stays inside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.adapter.dequantize import BESIDE
from adaptr.errors import NonFinite, Unsupported, UsageError
from adaptr.families import encoding
from adaptr.families.fidelity import declared
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.families.base import Method

#: Axes whose indices are inputs, outputs and places, and no terms of a sum.
SIDES = frozenset({"out", "in", "d", "h", "*k", "*e", "*1"})


def quantize(method: Method, adapter: Adapter, scheme: str) -> Adapter:
    """`adapter` with its tensors in `scheme`, and the error of what it does declared, as `fidelity` says it.

    Of what is quantised already, the error declared bounds that against the first original. Raises `NonFinite` for NaN
    and infinity, and for what `scheme` is too narrow for.
    """
    if scheme not in encoding.SCHEMES:
        raise UsageError("the quantisation scheme", got=f"`{scheme}`", want=f"one of {', '.join(encoding.SCHEMES)}")
    tensors: dict[str, Tensor] = {k: v for k, v in adapter.tensors.items() if k.endswith(":=")}
    for path, target in adapter.targets.items():
        for name, tensor in adapter.at(path).items():
            key = method.key(path, name)
            if key in tensors:  # shared, and there already
                continue
            if not method.params[name].trains:  # places and seeds of projections mean nothing when rounded
                tensors[key] = tensor
                continue
            stored = encoding.stored(tensor, scheme, own_axes(method, name, target))
            _require_finite(key, scheme, tensor, *stored.values())
            tensors.update({f"{key}{suffix}": value for suffix, value in stored.items()})
    made = adapter.replace(tensors=tensors, quantization={"scheme": scheme})
    return made.replace(quantization={"scheme": scheme, **declared(method, adapter, made)})


def require_some(made: Adapter, scheme: str) -> None:
    """Raises `Unsupported` where quantising made nothing smaller."""
    if scheme not in encoding.CASTS and not any(key.endswith(BESIDE) for key in made.tensors):
        raise Unsupported(
            f"`{scheme}` makes nothing of `{made.label}` ({made.method}) smaller: what it trains are vectors, or "
            "so few numbers that their scales are more",
            hint=f"{' and '.join(encoding.CASTS)} halve it",
        )


def _require_finite(key: str, scheme: str, *tensors: Tensor) -> None:
    if not all(bool(wide(tensor).isfinite().all()) for tensor in tensors):
        raise NonFinite(
            f"`{key}` holds NaN or infinity, or would in `{scheme}`",
            hint="use a wider scheme, or look at it with `adaptr inspect`",
        )


def own_axes(method: Method, name: str, target: Target) -> tuple[int, ...]:
    """The axes of a tensor whose indices have numbers of their own: the rank's and the experts', else the first."""
    tokens = method.params[name].tokens(vars(method.config(target.config)))
    ranks = [i for i, token in enumerate(tokens) if token not in SIDES and not token.isdigit()]
    own = {*ranks[:1], *(i for i, token in enumerate(tokens) if token == "*e")}
    lengths = [_axes(token, target) for token in tokens]
    return tuple(sum(lengths[:i]) for i in sorted(own) if lengths[i]) or (0,)


def _axes(token: str, target: Target) -> int:
    """How many axes a token stands for at a target."""
    sizes = target.dims.get("k" if token == "*1" else token.removeprefix("*"), ())
    return len(sizes) if token.startswith("*") and isinstance(sizes, tuple) else 1
