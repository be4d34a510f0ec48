"""LLaMA-Adapter: y = Attn(q, K, V) + γ softmax(q Kₚᵀ / √d) Vₚ, Kₚ and Vₚ the host's own projections of learned rows A.
Zhang et al. 2023, arXiv:2303.16199.

A softmax of its own, not columns of the host's: nothing is masked, cached or turned by a position. γ is tanh(g) of one
gate a head, zero at first, so a fresh adapter is the identity. With `gate="layer"` there is one for all heads, and with
`activation="none"` γ is g: both together are PEFT's. The topmost `layers` attentions are adapted, 30 as in the paper or
all that there are; where targets are named, `layers` becomes how many of the topmost they are, 0 where they are others.
A goes through adapters on the projections as well. PEFT adds the output layer's bias twice, so that its files
(`apart`) are refused on attentions that have one.

Choose it to teach a large decoder instructions by about a million numbers, from its own behaviour on, with nothing
below the adapted layers differentiated. It costs a small softmax in each layer; the gates, which begin at zero, want a
high rate. It can't be merged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Adapter, Method, Param, Target, targets
from adaptr.contract import Costs
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract import Live
    from adaptr.sites.attention import Attend, Attended

_LAYER = re.compile(r"(.*?\.)?(\d+)\.")


@dataclass(frozen=True)
class Config:
    tokens: int = 10
    layers: int = 30
    gate: Literal["head", "layer"] = "head"
    activation: Literal["tanh", "none"] = "tanh"
    apart: bool = False
    width: int = 1
    heads: int = 1


class LlamaAdapter(Method[Config]):
    name = "llama-adapter"
    family = "prompt"
    formulas = ("attention",)
    kinds = frozenset({"attention"})
    targets = ("attention",)
    params = {"A": Param("tokens width", init="normal:1"), "g": Param("heads 1 1")}
    unmergeable = "tokens"
    least = {"layers": 0}
    small = {"tokens": 3}
    rate = 1e-2

    def usual(self, model: nn.Module, config: Mapping[str, Any]) -> list[str]:
        return topmost(model, vars(self.config(config))["layers"])

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        config, stacks = targets.text_config(model), Counter(stack for stack, _ in {_numbered(p.path) for p in places})
        heads = getattr(config, "num_attention_heads", None) or config.n_head
        own = {"width": targets.hidden_size(model), "heads": heads if values.get("gate", "head") == "head" else 1}
        _require_width(model, places, own["width"])
        layers = max(stacks.values())
        top = topmost(model, layers) == [place.path for place in places]
        return {**own, **values, "layers": layers if top else 0}

    def placed(self, model: nn.Module, adapter: Adapter) -> Adapter:
        for path, target in adapter.targets.items():
            end = getattr(targets.submodule(model, path), "o_proj", None)
            if target.config["apart"] and getattr(end, "bias", None) is not None:
                raise Unsupported(
                    f"`{path}`: PEFT adds the bias of the output layer twice where its adaption prompts are",
                    hint="train it here, or use it on a base without that bias",
                )
        return adapter

    def attention(self, rest: Attend, a: Attended, p: Live, cfg: Config, weight: float) -> tuple[Tensor, Tensor | None]:
        y, weights = rest(a)
        gate = p["g"].tanh() if cfg.activation == "tanh" else p["g"]
        more = a.over(*a.projected(p["A"]))
        return y + (weight * gate * more.transpose(1, 2)).transpose(1, 2).to(y.dtype), weights

    def costs(self, target: Target, cfg: Config) -> Costs:
        shares = cfg.width // max(target.shape[1], 1) * cfg.tokens
        return Costs(token=cfg.width + shares, once=2 * cfg.tokens * cfg.width, flops=4 * cfg.tokens * cfg.width)


def _require_width(model: nn.Module, places: Sequence[Target], width: int) -> None:
    """Raises `Unsupported` for an attention of another tower, which reads rows of another width."""
    for place in places:
        for name, module in targets.submodule(model, place.path)._modules.items():
            found = targets.describe("", module) if module is not None and name in {"k_proj", "key"} else None
            if found is not None and found.shape[1] != width:
                raise Unsupported(
                    f"`llama-adapter` has rows of the model's width, {width}, and `{place.path}` reads others, of "
                    f"{found.shape[1]}",
                    hint="attach it to that part of the model alone",
                )


def topmost(model: nn.Module, layers: int) -> list[str]:
    """The paths of the attentions in the last `layers` layers of each stack of a model, in its order."""
    every = [place.path for place in targets.resolve(model, "attention", LlamaAdapter.kinds)]
    stacks: dict[str, list[str]] = {}
    for stack, number in dict.fromkeys(map(_numbered, every)):
        stacks.setdefault(stack, []).append(number)
    top = {(stack, number) for stack, numbers in stacks.items() for number in numbers[-layers:]}
    return [path for path in every if layers and _numbered(path) in top]


def _numbered(path: str) -> tuple[str, str]:
    """The stack of layers that an attention is in, and the number of its layer there."""
    found = _LAYER.match(path)
    return (found[1] or "", found[2]) if found else ("", path)
