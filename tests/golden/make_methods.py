"""Makes `methods/<method>.safetensors`: tensors and what the papers' formulas give for them, in fp64, without adaptr.

Run by hand when a method is added: `python tests/golden/make_methods.py`. Files that are there are never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

OUT, IN, R, M, T = 6, 5, 2, 3, 4
HERE = Path(__file__).parent / "methods"


def drawn(seed: int, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def lora(t: dict[str, Tensor]) -> Tensor:
    """alpha 3, r 2."""
    return t["x"] @ t["W"].T + t["bias"] + 3.0 / R * t["x"] @ t["A"].T @ t["B"].T


def dora(t: dict[str, Tensor]) -> Tensor:
    """alpha 3, r 2, norms per output row."""
    V = t["W"] + 3.0 / R * t["B"] @ t["A"]
    return t["x"] @ (t["m"][:, None] * V / V.pow(2).sum(1, keepdim=True).sqrt()).T + t["bias"]


def ia3(t: dict[str, Tensor]) -> Tensor:
    return t["l"] * (t["x"] @ t["W"].T + t["bias"])


def bitfit(t: dict[str, Tensor]) -> Tensor:
    return t["x"] @ t["W"].T + t["bias"] + t["b"]


def bottleneck(t: dict[str, Tensor], z: Tensor, g: Callable[[Tensor], Tensor]) -> Tensor:
    return g(z @ t["D"].T + t["b_d"]) @ t["U"].T + t["b_u"]


def houlsby(t: dict[str, Tensor]) -> Tensor:
    """GELU with the error function."""
    h = t["x"] @ t["W"].T + t["bias"]
    return h + bottleneck(t, h, lambda z: z * 0.5 * (1 + torch.erf(z / 2**0.5)))


def parallel(t: dict[str, Tensor]) -> Tensor:
    """s 4, ReLU; the layer is square, and is itself the feed-forward."""
    h = t["x"] @ t["W"].T + t["bias"]
    return h + 4.0 * bottleneck(t, t["x"], lambda z: z.clamp(min=0))


LAYER = {"x": (T, IN), "W": (OUT, IN), "bias": (OUT,)}
SQUARE = {"x": (T, OUT), "W": (OUT, OUT), "bias": (OUT,)}
BOTTLENECK = {"D": (M, OUT), "b_d": (M,), "U": (OUT, M), "b_u": (OUT,)}
METHODS = {
    "lora": (lora, {**LAYER, "A": (R, IN), "B": (OUT, R)}),
    "dora": (dora, {**LAYER, "A": (R, IN), "B": (OUT, R), "m": (OUT,)}),
    "ia3": (ia3, {**LAYER, "l": (OUT,)}),
    "bitfit": (bitfit, {**LAYER, "b": (OUT,)}),
    "houlsby": (houlsby, {**LAYER, **BOTTLENECK}),
    "parallel": (parallel, {**SQUARE, **BOTTLENECK}),
}


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for seed, (name, (formula, shapes)) in enumerate(METHODS.items()):
        path = HERE / f"{name}.safetensors"
        if not path.exists():
            tensors = drawn(seed, **shapes)
            # inputs as fp32 hold the values exactly as they will be read
            tensors = {key: value.float() for key, value in tensors.items()}
            y = formula({key: value.double() for key, value in tensors.items()})
            save_file({**tensors, "y": y}, path)


if __name__ == "__main__":
    main()
