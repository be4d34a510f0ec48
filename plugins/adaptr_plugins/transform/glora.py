"""GLoRA: W' = W + W ∘ A + B, b' = b + D ∘ b + E + W c.  Chavan et al. 2023, arXiv:2306.07967.

A and B are products of rank r (`lora`), a number for each output (`vector`) or one for all (`constant`); c is a product
or a vector over the inputs; D and E are vectors or numbers. `none` leaves them out, as do layers without a bias with c,
D and E. With `side` in, A is of inputs, and where it is a product it meets W as a matrix, W' = W + W A + B: so LyCORIS
has it, and the paper's text; the paper's code is the other. `alpha`, unless 0: A and B are multiplied by alpha / r. Of
what a convolution has, B alone differs within a kernel. The paper searches for a configuration for each layer; here it
is given (`overrides`). Fresh, the first of two factors, and what is none, is zero.

Choose it where weights should be scaled as well as moved, and biases are there to be trained with them. It costs a
weight made anew in each step, and about twice LoRA's numbers. On models without biases half of it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.precision import wide
from adaptr_plugins.transform._mixing import gains, mixed, over_columns, term, unmixed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 8
    weights: Literal["lora", "vector", "constant", "none"] = "lora"
    inputs: Literal["lora", "vector", "none"] = "lora"
    biases: Literal["vector", "constant", "none"] = "constant"
    side: Literal["out", "in"] = "out"
    alpha: float = 0.0


def _either(name: str, field: str, side: str = "out") -> dict[str, Param]:
    """A vector over the outputs, or a number."""
    vector, number = Param(side, when=f"{field}=vector"), Param("1", when=f"{field}=constant")
    return {f"{name}v": vector, f"{name}c": number}


def _product(name: str, side: str, into: str) -> dict[str, Param]:
    down, up = Param(f"{side} r", when="weights=lora"), Param(f"r {into}", init="kaiming", when="weights=lora")
    return {f"{name}d": down, f"{name}u": up, **_either(name, "weights", side)}


class GLoRA(Transform[Config]):
    name = "glora"
    params = {
        **_product("A", "{side}", "in"),
        **_product("B", "out", "in *k"),
        "Cd": Param("in r", when="inputs=lora"),
        "Cu": Param("r", init="kaiming", when="inputs=lora"),
        "Cv": Param("in", when="inputs=vector"),
        **_either("D", "biases"),
        **_either("E", "biases"),
    }
    kinds = frozenset({"linear", "linear_t", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    rowwise = True
    portable = True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        try:
            bias = model.get_submodule(target.path)._parameters.get("bias")
        except AttributeError:  # a part of a stack
            bias = None
        return values if bias is not None else {**values, "inputs": "none", "biases": "none"}

    def couples(self, cfg: Config) -> bool:
        return cfg.inputs != "none"

    def travels(self, p: Live, cfg: Config) -> bool:
        return super().travels(p, cfg) and not self.mixes(cfg)

    def mixes(self, cfg: Config) -> bool:
        """Whether A is a matrix that mixes the inputs."""
        return cfg.side == "in" and cfg.weights == "lora"

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        return self.changed(W, p, cfg, None)

    def exactly(self, W: Tensor, p: Live, cfg: Config, dtype: torch.dtype) -> Tensor:
        return self.changed(W, p, cfg, dtype)

    def changed(self, W: Tensor, p: Live, cfg: Config, exact: torch.dtype | None) -> Tensor:
        A = mixed(W, p["Ad"], p["Au"], exact) if self.mixes(cfg) else W * gains(p, W, cfg.side, exact)
        B = term(p, "B", W, exact)
        return W + A + B if not cfg.alpha else W + cfg.alpha / cfg.r * (A + B)

    def bias_of(self, b: Tensor, W: Callable[[], Tensor], p: Live, cfg: Config) -> Tensor:
        made = b + b * term(p, "D", b) + term(p, "E", b)
        return made + (W() * over_columns(shift(p), W())).flatten(1).sum(1) if self.couples(cfg) else made

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """Where 1 + w A is zero nothing can be recovered: the receipt's patch holds those elements."""

        def rows(s: slice) -> Tensor:
            M, own = merged.rows(s), self.sliced(p, cfg, s)
            w = weight * cfg.alpha / cfg.r if cfg.alpha else weight
            M = M - w * term(own, "B", M, merged.exact)
            if self.mixes(cfg):
                return unmixed(M, own["Ad"], own["Au"], w)
            gain = 1 + w * gains(own, M, cfg.side, merged.exact)
            return M / gain.where(gain != 0, 1.0)

        def bias() -> Tensor | None:
            b = merged.bias
            if b is None:
                return None
            own, W = self.sliced(p, cfg, ALL), lambda: wide(rows(ALL))
            gain = 1 + weight * term(own, "D", b)
            moved = self.bias_of(b.new_zeros(b.shape), W, own, cfg)
            return (b - weight * moved) / gain.where(gain != 0, 1.0)

        return merged.then(rows=rows, bias=bias)


def shift(p: Live) -> Tensor:
    """c (in). Sums, as products with vectors have other bits for other alignments."""
    return (p["Cd"] * p["Cu"]).sum(1) if "Cd" in p else p["Cv"]
