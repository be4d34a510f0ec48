"""LoRA for tools with one rank and one scale for all layers: smaller ranks are filled up, other scales go into B."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Target
    from adaptr.foreign.same import Same


def scale(config: Mapping[str, Any]) -> float:
    return float(config["alpha"] / (config["r"] ** 0.5 if config["rslora"] else config["r"]))


def common(targets: Iterable[Target]) -> tuple[int, float]:
    """The largest rank, and the most frequent scale, not 0 if there is another."""
    configs = [target.config for target in targets]
    scales = Counter(scale(config) for config in configs)
    return max(config["r"] for config in configs), max(scales, key=lambda one: (one != 0, scales[one], one))


def narrowed(value: Same) -> Tensor | Same:
    """As it is, and fp64 as fp32."""
    import torch

    tensor = value.tensor
    return tensor.float() if tensor.dtype == torch.float64 else value


def filled(name: str, value: Same, rank: int, factor: float) -> Tensor:
    """A (rank, in) or B (out, rank), with `factor` in B, in fp32 at least then."""
    import torch

    tensor = value.tensor
    dtype = torch.float32 if tensor.dtype == torch.float64 else tensor.dtype
    if name == "B" and factor != 1:
        tensor, dtype = tensor.double() * factor, torch.promote_types(dtype, torch.float32)
    fill = rank - value.shape[0 if name == "A" else 1]
    return torch.nn.functional.pad(tensor.to(dtype), (0, 0, 0, fill) if name == "A" else (0, fill)).contiguous()
