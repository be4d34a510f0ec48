"""Blocks of a side network that start as a part of the base's: of each width the units of most weight (L1).

What is kept of the residual stream is the same in all blocks. Of turned heads pairs are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Target

#: From a name of the network's to the layer of a block that it is a part of.
LAYERS = {
    "Q": "self_attn.q_proj", "K": "self_attn.k_proj", "V": "self_attn.v_proj", "O": "self_attn.o_proj",
    "G": "mlp.gate_proj", "W": "mlp.up_proj", "Z": "mlp.down_proj",
}  # fmt: skip


def prunable(model: nn.Module, target: Target) -> bool:
    """Whether a block has all of these layers."""
    names = {path for path, _ in model.named_modules()}
    return all(f"{target.path}.{layer}" in names for layer in LAYERS.values())


def started(model: nn.Module, targets: Mapping[str, Target]) -> dict[str, Tensor]:
    """Tensors by their keys."""
    import torch

    from adaptr import host
    from adaptr import targets as places

    def weights(path: str) -> dict[str, Tensor]:
        return {name: host.view_of(model, _layer(f"{path}.{layer}")).weight.float() for name, layer in LAYERS.items()}

    def _layer(path: str) -> Target:
        found = places.describe(path, model.get_submodule(path))
        assert found is not None, "its blocks have these layers"
        return found

    each = [W["O"].abs().sum(1) + W["Z"].abs().sum(1) for W in map(weights, targets)]
    weight = torch.stack(each).sum(0)
    found: dict[str, Tensor] = {}
    for path, target in targets.items():
        cfg = target.config
        kept = _most(weight, target.shape[0] // cfg["reduction"])
        for name, tensor in _part(weights(path), kept, cfg).items():
            found[f"{path}:{name}"] = tensor.detach().cpu().contiguous()
    return found


def _part(W: dict[str, Tensor], kept: Tensor, cfg: Mapping[str, int]) -> dict[str, Tensor]:
    import torch

    groups: int = cfg["groups"]
    width = len(W["K"]) // groups
    each = cfg["heads"] // groups

    def of_heads(name: str, axis: int = 0) -> Tensor:
        """Weight of each dimension of a group's heads, (groups, width)."""
        found: Tensor = W[name].abs().sum(1 - axis).view(groups, -1, width).sum(1)
        return found

    turned = (of_heads("Q") + of_heads("K")).view(groups, 2, -1).sum(1)
    pairs = torch.stack([_most(one, cfg["head"] // 2) for one in turned])
    keys = torch.cat([pairs, pairs + width // 2], 1)
    values = torch.stack([_most(one, cfg["head"]) for one in of_heads("V") + of_heads("O", 1)])

    def rows(inside: Tensor, heads: int) -> Tensor:
        """Of all heads, those of a group having what it keeps."""
        start = torch.arange(groups * heads)[:, None] * width
        found: Tensor = (start + inside.repeat_interleave(heads, 0)).flatten()
        return found

    units = _most(sum(W[n].abs().sum(1) for n in "GW") + W["Z"].abs().sum(0), cfg["inner"])
    return {
        "Q": W["Q"][rows(keys, each)][:, kept],
        "K": W["K"][rows(keys, 1)][:, kept],
        "V": W["V"][rows(values, 1)][:, kept],
        "O": W["O"][kept][:, rows(values, each)],
        "G": W["G"][units][:, kept],
        "W": W["W"][units][:, kept],
        "Z": W["Z"][kept][:, units],
    }


def _most(weight: Tensor, count: int) -> Tensor:
    """The places of the largest, in their order."""
    found: Tensor = weight.topk(count).indices.sort().values
    return found


def sizes(model: nn.Module, reduction: int) -> dict[str, int | float | bool]:
    """Of blocks that are `reduction` times narrower, and how the model has its positions."""
    from adaptr import targets as places

    config = places.text_config(model)

    def said(*names: str) -> int:
        return next((int(found) for name in names if (found := getattr(config, name, None))), 0)

    width = places.hidden_size(model)
    heads = said("num_attention_heads", "n_head", "n_heads")
    groups = said("num_key_value_heads") or heads
    head = (said("head_dim") or width // heads) // reduction
    tables = any(re.search(r"(wpe|position_embeddings|embed_positions)$", path) for path, _ in model.named_modules())
    causal = (getattr(module, "is_causal", None) for _, module in model.named_modules())
    return {
        "heads": heads,
        "groups": groups,
        "head": max(head - head % 2, 2),
        "inner": max((said("intermediate_size", "n_inner", "ffn_dim", "hidden_dim") or 4 * width) // reduction, 1),
        "theta": 0.0 if tables else 10000.0,
        "causal": next((found for found in causal if found is not None), True),
        "depth": said("num_hidden_layers", "n_layer", "n_layers"),
    }
