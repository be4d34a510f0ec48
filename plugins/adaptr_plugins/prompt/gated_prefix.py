"""Gated prefix: softmax over [s K; K(x)], values [s V; V(x)], s = σ(g x + c), UniPELT's part at attentions.  Mao et al.
2022, arXiv:2110.07577.

x goes into the attention. The gate is of a text or of a token as that of `gated-lora`; with two `gates` the second is
that of the values. Where each token has its own it
meets keys of its own: heads are twice as wide then, so that one softmax has both. Not the identity when fresh, as a
prefix is not.

Choose it in `unipelt`, or where a prefix should be on for some inputs alone. It costs a prefix, and in models that
generate the attention twice; it can't be merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Prefix, Target, targets
from adaptr.contract import Costs, Live, Mount
from adaptr.precision import wide
from adaptr_plugins.insert import _gated
from adaptr_plugins.insert._gated import Of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.sites.attention import Attend, Attended


@dataclass(frozen=True)
class Config:
    tokens: int = 10
    width: int = 1
    of: Of = "auto"
    gates: int = 1


class GatedPrefix(Prefix[Config]):
    name = "gated-prefix"
    small = {"tokens": 3}
    params = {
        "K": Param("h tokens d", init="normal:1"),
        "V": Param("h tokens d", init="normal:1"),
        **_gated.params("gated", "gates"),
    }
    averages = False
    most = {"gates": 2}
    rate = 5e-4

    def accepts(self, model: nn.Module, target: Target) -> bool:
        return not _gated.crosses(target.path)

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        return {"width": targets.hidden_size(model), **values}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return _gated.said(model, target, values)

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"gated": cfg.gates * cfg.width}

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        texts = _gated.texts(adapter)
        return [Mount(path, "attention", (path,), context=path in texts) for path in adapter.targets]

    def attention(self, rest: Attend, a: Attended, p: Live, cfg: Config, weight: float) -> tuple[Tensor, Tensor | None]:
        s = _gated.gates(p.taken(), p, cfg.of)  # (batch, tokens or 1, gates)
        k, v = s[..., :1], s[..., -1:]
        K, V = self.keys_values(p, cfg)
        if cfg.of == "text":
            return rest(a.extended(k[..., None] * K, v[..., None] * V))
        return _by_token(rest, a, (k, v), K, V)

    def costs(self, target: Target, cfg: Config) -> Costs:
        if cfg.of == "text":
            return Costs(input=True, columns=cfg.tokens)
        # queries, keys, values and outputs that are twice as wide
        return Costs(input=True, token=7 * cfg.width + 4 * math.prod(target.shape), columns=2 * cfg.tokens)

    def keys_values(self, p: Live, cfg: Config) -> tuple[Tensor, Tensor]:
        return wide(p["K"]), p["V"]


def _by_token(
    rest: Attend, a: Attended, gates: tuple[Tensor, Tensor], K: Tensor, V: Tensor
) -> tuple[Tensor, Tensor | None]:
    """[q; s q] against [k; 0] of the text and [0; K] of the prefix, and of what comes out the sum, its half times s."""
    import torch

    def apart(t: Tensor) -> Tensor:
        return torch.cat([t, torch.zeros_like(t)], -1)

    of_keys, of_values = gates
    q = torch.cat([a.q, (of_keys[:, None] * a.q).to(a.q)], -1)
    options = {**a.options, "scaling": a.scaling}
    double = a._replace(q=q, k=apart(a.k), v=apart(a.v), options=options)
    y, weights = rest(double.extended(*(apart(t).roll(t.shape[-1], -1) for t in (K, V))))
    text, prefix = y.chunk(2, -1)
    return text + (of_values[:, :, None] * prefix).to(y), weights
