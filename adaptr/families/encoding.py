"""How one tensor is written in fewer bits: what is stored of it, by the end of its name.

`int8`, `fp8` (e4m3): one fp32 scale for each index of the axes that are kept. `nf4`, `int4-g32`: two codes a byte, in
blocks along the longest other axis, each with a bf16 number (`adaptr.adapter.packed`). A bf16 largest value costs NF4
nothing that can be measured beside its own error, and half the bytes of fp32. The step of a block of `int4-g32` has the
sign that puts its largest value on -8: 0.88 to 0.93 of the error of a step of the largest value / 7. Steps
from the smallest to the largest value have 0.90 to 0.95 of that, for a ninth more bytes (decision 0028).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from adaptr.adapter import packed
from adaptr.adapter.dequantize import BESIDE, SCALE

if TYPE_CHECKING:
    from torch import Tensor

#: What is stored of a tensor, by the axes of it whose indices have numbers of their own.
Encode = Callable[["Tensor", tuple[int, ...]], dict[str, "Tensor"]]

CASTS = {"fp16": "float16", "bf16": "bfloat16"}
#: The largest number that e4m3 holds.
LARGEST_E4M3 = 448.0


def stored(tensor: Tensor, scheme: str, kept: tuple[int, ...]) -> dict[str, Tensor]:
    """What is written for one tensor. One that has a single axis, or would not be smaller, stays as it is."""
    import torch

    if scheme in CASTS:
        return {"": tensor.to(getattr(torch, CASTS[scheme]))}
    made = ENCODERS[scheme](tensor.float(), kept) if tensor.ndim > 1 else {"": tensor}
    return made if sum(part.nbytes for part in made.values()) < tensor.nbytes else {"": tensor}


def _int8(tensor: Tensor, kept: tuple[int, ...]) -> dict[str, Tensor]:
    import torch

    scale = _scale(tensor, kept, 127)
    # a scale so small that it is rounded itself could send a number past what a byte holds
    return {"": (tensor / scale).round().clamp(-127, 127).to(torch.int8), SCALE: scale}


def _fp8(tensor: Tensor, kept: tuple[int, ...]) -> dict[str, Tensor]:
    import torch

    scale = _scale(tensor, kept, LARGEST_E4M3)
    return {"": (tensor / scale).clamp(-LARGEST_E4M3, LARGEST_E4M3).to(torch.float8_e4m3fn), SCALE: scale}


def _scale(tensor: Tensor, kept: tuple[int, ...], largest: float) -> Tensor:
    others = [i for i in range(tensor.ndim) if i not in kept]
    scale = tensor.abs().amax(dim=others, keepdim=True) / largest
    return scale.where(scale > 0, 1.0)


def _packed(tensor: Tensor, kept: tuple[int, ...], suffix: str) -> dict[str, Tensor]:
    """Codes in blocks; in int8 what has no other even axis that is long enough."""
    import torch

    sizes = {i: n for i, n in enumerate(tensor.shape) if i not in kept and n % 2 == 0 and n >= packed.LEAST}
    if not sizes:
        return _int8(tensor, kept)
    axis, size = max(sizes, key=lambda i: (sizes[i], i)), packed.BLOCKS[suffix]
    rows = tensor.movedim(axis, -1)
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[-1] % size))
    codes, each = _CODES[suffix](padded.reshape(*rows.shape[:-1], -1, size))
    codes = codes.flatten(-2)[..., : rows.shape[-1]].movedim(-1, axis)
    return {"": packed.pairs(codes, axis).contiguous(), suffix: each.squeeze(-1).movedim(-1, axis).contiguous()}


def _nf4(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (..., 64) and largest absolute values (..., 1): as bitsandbytes' CPU kernels, bit for bit."""
    import torch

    table = torch.tensor(packed.NF4)
    largest = blocks.abs().amax(-1, keepdim=True)
    shares = (blocks * (1 / largest.where(largest > 0, 1.0))).contiguous()
    return torch.bucketize(shares, (table[1:] + table[:-1]) / 2).to(torch.uint8), largest.bfloat16()


def _steps(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (..., 32) and steps (..., 1)."""
    import torch

    extreme = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    step = (extreme / -packed.ZERO).bfloat16()
    counts = (blocks / step.float().where(step != 0, 1.0)).round()
    return (counts.clamp(-packed.ZERO, 15 - packed.ZERO) + packed.ZERO).to(torch.uint8), step


_CODES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {packed.ABSMAX: _nf4, packed.STEP: _steps}
_PACKED = {packed.ABSMAX: "nf4", packed.STEP: "int4-g32"}
ENCODERS: dict[str, Encode] = {
    "int8": _int8,
    "fp8": _fp8,
    **{scheme: partial(_packed, suffix=suffix) for suffix, scheme in _PACKED.items()},
}
SCHEMES = (*CASTS, *ENCODERS)
#: What the scheme is called where it is not the same everywhere.
MIXED = "mixed"
_STORED = {"torch.float16": "fp16", "torch.bfloat16": "bf16", "torch.int8": "int8", "torch.float8_e4m3fn": "fp8"}


def scheme_of(stored: Mapping[str, Tensor]) -> str:
    """What tensors are stored in, those with several axes if there are some: schemes and dtypes, joined by `+`."""
    own = {name: tensor for name, tensor in stored.items() if not name.endswith(BESIDE)}
    several = {name for name, tensor in own.items() if tensor.ndim > 1} or own
    return "+".join(sorted({_scheme(name, stored) for name in several}))


def _scheme(name: str, stored: Mapping[str, Tensor]) -> str:
    suffix, dtype = packed.suffix_of(name, stored), str(stored[name].dtype)
    return _PACKED[suffix] if suffix else _STORED.get(dtype, dtype.removeprefix("torch."))
