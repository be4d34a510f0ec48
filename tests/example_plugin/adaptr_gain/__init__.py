"""Gain: W' = diag(1 + a) W diag(1 + c), b' = (1 + a) ∘ b: a learned gain on each input and output of a linear layer.

Invented for this example; no paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Transform, View

if TYPE_CHECKING:
    from torch import Tensor


class Gain(Transform):
    name = "gain"
    params = {"a": Param("out"), "c": Param("in")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    rowwise = True
    portable = True

    @dataclass(frozen=True)
    class Config:
        pass

    def weight(self, W: Tensor, p: Mapping[str, Tensor], cfg: Any) -> Tensor:
        return (1 + p["a"][:, None]) * W * (1 + p["c"])

    def bias(self, b: Tensor, p: Mapping[str, Tensor], cfg: Any) -> Tensor:
        return (1 + p["a"]) * b

    def inverse(
        self, merged: View, p: Mapping[str, Tensor], cfg: Any, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        def factor(s: slice) -> Tensor:
            gain: Tensor = (1 + p["a"][s, None]) * (1 + p["c"])
            return 1 - weight + weight * gain

        bias = lambda: None if merged.bias is None else merged.bias / (1 + weight * p["a"])
        return merged.then(rows=lambda s: merged.rows(s) / factor(s), bias=bias)
