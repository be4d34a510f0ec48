"""Makes `methods/<method>.safetensors`: tensors and what the papers' formulas give for them, in fp64, without adaptr.

Run by hand when a method is added: `python tests/golden/make_methods.py`. Files that are there are never changed.
"""

from __future__ import annotations

import itertools
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


def loha(t: dict[str, Tensor]) -> Tensor:
    """alpha 3, r 2."""
    D = 3.0 / R * (t["w1_a"] @ t["w1_b"]) * (t["w2_a"] @ t["w2_b"])
    return t["x"] @ (t["W"] + D).T + t["bias"]


def lokr(t: dict[str, Tensor]) -> Tensor:
    """alpha 3, r 2, w1 (2, 1), w2 (3, 5)."""
    w2 = t["w2_a"] @ t["w2_b"]
    D = torch.cat([3.0 / R * t["w1"][i, 0] * w2 for i in range(2)])
    return t["x"] @ (t["W"] + D).T + t["bias"]


def adalora(t: dict[str, Tensor]) -> Tensor:
    """alpha 3, two triplets left of four, the authors' 1e-5 beside the rank."""
    D = 3.0 / (4 + 1e-5) * t["B"] @ torch.diag(t["E"][:, 0]) @ t["A"]
    return t["x"] @ (t["W"] + D).T + t["bias"]


def vera(t: dict[str, Tensor]) -> Tensor:
    """Projections for a layer of 8 by 7."""
    D = torch.diag(t["b"]) @ t["B"][:OUT] @ torch.diag(t["d"]) @ t["A"][:, :IN]
    return t["x"] @ (t["W"] + D).T + t["bias"]


def oft(t: dict[str, Tensor]) -> Tensor:
    """One block."""
    Q, one = torch.zeros(IN, IN, dtype=torch.float64), torch.eye(IN, dtype=torch.float64)
    for value, (i, j) in zip(t["Q"][0], itertools.combinations(range(IN), 2), strict=True):
        Q[i, j], Q[j, i] = value, -value
    R = (one + Q) @ torch.linalg.inv(one - Q)
    return t["x"] @ (t["W"] @ R.T).T + t["bias"]


def boft(t: dict[str, Tensor]) -> Tensor:
    """Two factors of four blocks of 2: neighbours, then features that lie two apart."""
    y = t["x"]
    for i, pairs in ((1, [(0, 2), (1, 3), (4, 6), (5, 7)]), (0, [(0, 1), (2, 3), (4, 5), (6, 7)])):
        turned = y.clone()
        for block, (p, q) in zip(t["Q"][i], pairs, strict=True):
            a = (block[0, 1] - block[1, 0]) / 2
            c, s = (1 - a * a) / (1 + a * a), 2 * a / (1 + a * a)
            turned[:, p], turned[:, q] = c * y[:, p] + s * y[:, q], c * y[:, q] - s * y[:, p]
        y = turned
    return t["s"] * (y @ t["W"].T) + t["bias"]


def hra(t: dict[str, Tensor]) -> Tensor:
    """Two reflections."""
    H = torch.eye(IN, dtype=torch.float64)
    for u in t["U"].T:
        H = H @ (torch.eye(IN, dtype=torch.float64) - 2 * torch.outer(u, u) / u.dot(u))
    return t["x"] @ (t["W"] @ H).T + t["bias"]


def krona(t: dict[str, Tensor]) -> Tensor:
    """s 2, A (2, 5), B (3, 1)."""
    D = torch.cat([torch.cat([a * t["B"] for a in row], dim=1) for row in t["A"]])
    return t["x"] @ (t["W"] + 2.0 * D).T + t["bias"]


def krona_b(t: dict[str, Tensor]) -> Tensor:
    """s 2, A (2, 3), B (3, 2); the layer is square, and is itself the feed-forward."""
    K = torch.cat([torch.cat([a * t["B"] for a in row], dim=1) for row in t["A"]])
    return t["x"] @ t["W"].T + t["bias"] + 2.0 * t["x"] @ K


def krona_bres(t: dict[str, Tensor]) -> Tensor:
    return krona_b(t) + t["c"] * t["x"]


def shira(t: dict[str, Tensor]) -> Tensor:
    """alpha 0.5."""
    W = t["W"].clone()
    for place, value in zip(t["i"].tolist(), t["v"], strict=True):
        W[int(place) // IN, int(place) % IN] += 0.5 * value
    return t["x"] @ W.T + t["bias"]


def full(t: dict[str, Tensor]) -> Tensor:
    return t["x"] @ (t["W"] + t["D"]).T + t["bias"]


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
    "loha": (loha, {**LAYER, "w1_a": (OUT, R), "w1_b": (R, IN), "w2_a": (OUT, R), "w2_b": (R, IN)}),
    "lokr": (lokr, {**LAYER, "w1": (2, 1), "w2_a": (3, R), "w2_b": (R, 5)}),
    "adalora": (adalora, {**LAYER, "A": (R, IN), "B": (OUT, R), "E": (R, 1)}),
    "vera": (vera, {**LAYER, "A": (R, 7), "B": (8, R), "d": (R,), "b": (OUT,)}),
    "oft": (oft, {**LAYER, "Q": (1, 10)}),
    "shira": (shira, {**LAYER, "v": (4,)}),
    "full": (full, {**LAYER, "D": (OUT, IN)}),
    "ia3": (ia3, {**LAYER, "l": (OUT,)}),
    "bitfit": (bitfit, {**LAYER, "b": (OUT,)}),
    "houlsby": (houlsby, {**LAYER, **BOTTLENECK}),
    "parallel": (parallel, {**SQUARE, **BOTTLENECK}),
    "krona": (krona, {**LAYER, "A": (2, 5), "B": (3, 1)}),
    "krona-b": (krona_b, {**SQUARE, "A": (2, 3), "B": (3, 2)}),
    "krona-bres": (krona_bres, {**SQUARE, "A": (2, 3), "B": (3, 2), "c": (1,)}),
    "boft": (boft, {"x": (T, 8), "W": (OUT, 8), "bias": (OUT,), "Q": (2, 4, 2, 2), "s": (OUT,)}),
    "hra": (hra, {**LAYER, "U": (IN, R)}),
}


#: Tensors that are not drawn.
GIVEN = {"shira": {"i": torch.tensor([1, 9, 13, 29])}}


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for seed, (name, (formula, shapes)) in enumerate(METHODS.items()):
        path = HERE / f"{name}.safetensors"
        if not path.exists():
            tensors = drawn(seed, **shapes)
            # inputs as fp32 hold the values exactly as they will be read
            tensors = {key: value.float() for key, value in tensors.items()} | GIVEN.get(name, {})
            y = formula({key: value.double() for key, value in tensors.items()})
            save_file({**tensors, "y": y}, path)


if __name__ == "__main__":
    main()
