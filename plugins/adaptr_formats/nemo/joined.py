"""The tensors of all ranks as one, by the layers of a model like Llama."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorAbsent, TensorUnknown, Unsupported, phrases, shown

if TYPE_CHECKING:
    from torch import Tensor

IN, OUT = "linear_in", "linear_out"
_KEY = re.compile(
    r"(?:(?:model|module)\.)*(?:language_model\.encoder\.|decoder\.)?layers\.(?P<layer>\d{1,5})\."
    r"(?:self_attention|mlp)\.(?P<name>[\w.]+)\.(?P<slot>linear_in|linear_out)\.weight",
    re.DOTALL,
)
#: What both call the places of a layer; the fused ones by a name with `+`.
PLACES = {
    "adapter_layer.lora_kqv_adapter": "q+k+v", "linear_qkv.adapter": "q+k+v",
    "adapter_layer.lora_dense_attention_adapter": "o", "linear_proj.adapter": "o",
    "adapter_layer.lora_hto4h_adapter": "gate+up", "linear_fc1.adapter": "gate+up",
    "adapter_layer.lora_4htoh_adapter": "down", "linear_fc2.adapter": "down",
    **{f"adapter_layer.lora_unfused_kqv_adapter.{one}_adapter": one for one in "qkv"},
    **{f"linear_qkv.adapter.adapter_{one}": one for one in "qkv"},
    **{f"adapter_layer.lora_unfused_hto4h_adapter.{one}_adapter": one for one in ("gate", "up")},
    **{f"linear_fc1.adapter.adapter_{one}": one for one in ("gate", "up")},
}  # fmt: skip
#: Places whose layer is cut by its inputs, and with it the columns of their first factor.
_BY_INPUTS = frozenset({"o", "down"})

Factors = tuple["Tensor", "Tensor"]


def joined(
    ranks: Mapping[tuple[int, int], Mapping[str, Tensor]], layers: int
) -> dict[tuple[int, str], tuple[Factors, str]]:
    """{(layer, place): ((A, B), key)} of `layers` in a stage of the pipeline.

    Raises `TensorAbsent` where a rank or a factor lacks one, `TensorUnknown` for other names.
    """
    found: dict[tuple[int, str], dict[str, list[tuple[str, Tensor]]]] = {}
    for (stage, _), tensors in ranks.items():
        for key, value in tensors.items():
            layer, place, slot = _named(key)
            here = found.setdefault((layer + stage * layers, place), {})
            here.setdefault(slot, []).append((key, value))
    if not found:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    parallel = 1 + max(rank for _, rank in ranks)
    return {at: _one(at, slots, parallel) for at, slots in found.items()}


def _named(key: str) -> tuple[int, str, str]:
    match = _KEY.fullmatch(key)
    place = PLACES.get(match["name"], "") if match else ""
    if match is None or not place:
        raise TensorUnknown(
            f"`{shown(key)}` is no tensor of a LoRA of NeMo or Megatron on a model like Llama",
            hint="save it as PEFT's with the tool that wrote it",
        )
    return int(match["layer"]), place, match["slot"]


def _one(at: tuple[int, str], slots: Mapping[str, list[tuple[str, Tensor]]], parallel: int) -> tuple[Factors, str]:
    layer, place = at
    for slot in (IN, OUT):
        parts = slots.get(slot, [])
        if len(parts) != parallel:
            raise TensorAbsent(
                f"layer {layer} has {len(parts)} parts of `{slot}` for its `{place}`, of {parallel} ranks",
                hint=phrases.AGAIN,
            )
        _require_alike(parts)
    A, B = ([value for _, value in slots[slot]] for slot in (IN, OUT))
    return (_cat(A, 1 if place in _BY_INPUTS else 0), _outputs(place, B)), slots[IN][0][0]


def _require_alike(parts: list[tuple[str, Tensor]]) -> None:
    key, first = parts[0]
    if any(value.ndim != 2 or 0 in value.shape or value.shape != first.shape for _, value in parts):
        shapes = [tuple(value.shape) for _, value in parts]
        raise ConfigConflict(
            f"`{shown(key)}`", verb="has", got=f"shapes {shapes}", want="two axes, the same of all ranks",
            hint=phrases.AGAIN,
        )  # fmt: skip


def _outputs(place: str, parts: list[Tensor]) -> Tensor:
    """Rows of all ranks; of gate and up each rank has its part of both."""
    if place != "gate+up" or len(parts) == 1:
        return _cat(parts, 0)
    if parts[0].shape[0] % 2:
        raise Unsupported("gate and up are not the same number of rows", hint=phrases.AGAIN)
    halves = [part.chunk(2) for part in parts]
    return _cat([half[side] for side in (0, 1) for half in halves], 0)


def _cat(parts: list[Tensor], axis: int) -> Tensor:
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
