"""How much each entry of weights that are there matters, before they are trained: what pruning at the start goes by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from adaptr.algebra import stream
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run

Score = Literal["snip", "grasp", "magnitude", "random"]


def scores(kind: Score, weights: Mapping[str, Tensor], data: Iterable[Run], seed: int) -> dict[str, Tensor]:
    """A score of each entry, the larger the more it matters: snip |w g|, grasp w (H g), magnitude |w|, random any.

    g and H g: means over the batches of `data`. Raises `UsageError` where there are none and they are needed.
    """
    if kind == "random":
        return {key: stream.uniform(seed, f"sparse.{key}", tuple(w.shape)).to(w.device) for key, w in weights.items()}
    if kind == "magnitude":
        return {key: w.detach().abs() for key, w in weights.items()}
    found = _means(weights, data, curved=kind == "grasp")
    signed = {key: w.detach() * found[key] for key, w in weights.items()}
    return signed if kind == "grasp" else {key: score.abs() for key, score in signed.items()}


def left(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Which entries are among the `share` with the largest scores of all; of equals the first, in their order."""
    import torch

    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[flat.sort(descending=True, stable=True).indices[: round(share * len(flat))]] = True
    parts = torch.split(kept, [score.numel() for score in scores.values()])
    return {key: part.view(score.shape) for (key, score), part in zip(scores.items(), parts, strict=True)}


def _means(weights: Mapping[str, Tensor], data: Iterable[Run], curved: bool) -> dict[str, Tensor]:
    """The mean over batches of the gradient g, or of H g where that is `curved`."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    own, n = list(weights.values()), 0
    sums = [torch.zeros_like(w, dtype=torch.float32) for w in own]
    for run in data:
        with sdpa_kernel(SDPBackend.MATH):  # others have no second derivative
            g = torch.autograd.grad(run()[0], own, create_graph=curved)
            if curved:
                g = torch.autograd.grad(sum((one * one.detach()).sum() for one in g), own)  # type: ignore[arg-type]
        sums, n = [a + b.float() for a, b in zip(sums, g, strict=True)], n + 1
    if not n:
        raise UsageError("pruning looks at some batches before training", hint="train by `fit`, or choose `random`")
    return {key: total / n for key, total in zip(weights, sums, strict=True)}
