"""GLoRA: W' = W + W ∘ A + B, b' = b + D ∘ b + E + W c.  Chavan et al. 2023, arXiv:2306.07967.

A and B are products of rank r (`lora`), a number for each output (`vector`) or one for all (`constant`); c is a product
or a vector over the inputs; D and E are vectors or numbers. `none` leaves them out, as do layers without a bias with c,
D and E. LyCORIS has a method of this name whose A is a product of matrices, W A; the paper's code has this one. The
paper searches for a configuration for each layer; here it is given (`overrides`). Fresh, the first of two factors, and
what is none, is zero.

Choose it where weights should be scaled as well as moved, and biases are there to be trained with them. It costs a
weight made anew in each step, and about twice LoRA's numbers. On models without biases half of it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import LowRank, Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.precision import wide

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 8
    weights: Literal["lora", "vector", "constant", "none"] = "lora"
    inputs: Literal["lora", "vector", "none"] = "lora"
    biases: Literal["vector", "constant", "none"] = "constant"


def _either(name: str, field: str) -> dict[str, Param]:
    """A vector over the outputs, or a number."""
    vector, number = Param("out", when=f"{field}=vector"), Param("1", when=f"{field}=constant")
    return {f"{name}v": vector, f"{name}c": number}


def _product(name: str) -> dict[str, Param]:
    down, up = Param("out r", when="weights=lora"), Param("r in", init="kaiming", when="weights=lora")
    return {f"{name}d": down, f"{name}u": up, **_either(name, "weights")}


class GLoRA(Transform[Config]):
    name = "glora"
    params = {
        **_product("A"),
        **_product("B"),
        "Cd": Param("in r", when="inputs=lora"),
        "Cu": Param("r", init="kaiming", when="inputs=lora"),
        "Cv": Param("in", when="inputs=vector"),
        **_either("D", "biases"),
        **_either("E", "biases"),
    }
    kinds = frozenset({"linear", "linear_t"})
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

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        return W + W * term(p, "A", W) + term(p, "B", W)

    def exactly(self, W: Tensor, p: Live, cfg: Config, dtype: torch.dtype) -> Tensor:
        return W + W * term(p, "A", W, dtype) + term(p, "B", W, dtype)

    def bias_of(self, b: Tensor, W: Callable[[], Tensor], p: Live, cfg: Config) -> Tensor:
        made = b + b * term(p, "D", b) + term(p, "E", b)
        return made + (W() * shift(p)).sum(1) if self.couples(cfg) else made

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """Where 1 + w A is zero nothing can be recovered: the receipt's patch holds those elements."""

        def rows(s: slice) -> Tensor:
            M, own = merged.rows(s), self.sliced(p, cfg, s)
            gain = 1 + weight * term(own, "A", M, merged.exact)
            return (M - weight * term(own, "B", M, merged.exact)) / gain.where(gain != 0, 1.0)

        def bias() -> Tensor | None:
            b = merged.bias
            if b is None:
                return None
            own, W = self.sliced(p, cfg, ALL), lambda: wide(rows(ALL))
            gain = 1 + weight * term(own, "D", b)
            moved = self.bias_of(b.new_zeros(b.shape), W, own, cfg)
            return (b - weight * moved) / gain.where(gain != 0, 1.0)

        return merged.then(rows=rows, bias=bias)


def term(p: Live, name: str, like: Tensor, exact: torch.dtype | None = None) -> Tensor:
    """What meets a weight (out, in) or a bias (out) there. `exact`: as a View says it."""
    if f"{name}d" in p:
        product = LowRank(p[f"{name}d"], p[f"{name}u"])
        product = product if exact is None else product.exact(exact)
        return product.add_rows(like.new_zeros(like.shape), ALL)
    if f"{name}v" in p:
        return p[f"{name}v"].view(-1, *(1 for _ in like.shape[1:]))
    return p[f"{name}c"] if f"{name}c" in p else like.new_zeros(1)


def shift(p: Live) -> Tensor:
    """c (in). Sums, as products with vectors have other bits for other alignments."""
    return (p["Cd"] * p["Cu"]).sum(1) if "Cd" in p else p["Cv"]
