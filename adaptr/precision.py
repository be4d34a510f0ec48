"""Precision: arithmetic is in fp32 or better from the first operation on, and nothing is narrowed unless that is asked.

Products of numbers in half precision lose half their digits, and in fp16 they vanish: 1e-4 times 1e-4 is zero there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

#: The dtypes that results can be asked for in, by the names that people give them.
NAMES = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def widest(*dtypes: torch.dtype) -> torch.dtype:
    """fp32, or fp64 where one of these is that. Integers and what has a byte a number count as fp32."""
    import torch

    return torch.float64 if any(dtype is torch.float64 for dtype in dtypes) else torch.float32


def wide(tensor: Tensor) -> Tensor:
    """`tensor` in fp32 or better; integers, which are places or packed, as they are."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def autocasts(device: str) -> bool:
    """Whether autocast is on for this type of device; it knows nothing of the one without numbers."""
    import torch

    return device != "meta" and torch.is_autocast_enabled(device)


def at_least(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in a dtype that loses nothing of it nor of `dtype`; integers as they are."""
    import torch

    if not tensor.is_floating_point() or tensor.dtype is dtype:
        return tensor
    found = wide(tensor) if tensor.itemsize < 2 else tensor  # of a byte torch promotes nothing
    return found.to(torch.promote_types(found.dtype, dtype))


def called(dtype: str | torch.dtype | None) -> str | None:
    """The short name of a dtype, None for none. Raises `UsageError` for one that results can't be in."""
    found = str(named(dtype)).removeprefix("torch.")
    return next((short for short, name in NAMES.items() if name == found), None)


def named(name: str | torch.dtype | None, among: Mapping[str, str] = NAMES) -> torch.dtype | None:
    """The dtype of that name, `bf16` or `bfloat16`; None for none. Raises `UsageError` for any that is not `among`."""
    import torch

    if name is None or name in {getattr(torch, known) for known in among.values()}:
        return name  # type: ignore[return-value]
    text = among.get(str(name), str(name))
    if text not in among.values():
        raise UsageError("the dtype", got=f"`{name}`", want=f"one of {', '.join(among)}")
    found: torch.dtype = getattr(torch, text)
    return found
