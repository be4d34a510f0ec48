"""torchtune's LoRA and DoRA: `lora_a.weight` (r, in), `lora_b.weight` (out, r) and `magnitude` at its own names.

Rows of queries and keys are in the order of Meta's rotary embeddings, in magnitudes too. The alpha is in the recipe's
configuration alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Format, Marks, Supplied
from adaptr.foreign.seen import CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces.module import Layer
    from adaptr.foreign.seen import Seen

_KEY = re.compile(r"(layers\.(?P<number>\d+)\.)?(?P<name>[\w.]+)\.(?P<slot>lora_[ab]\.weight|magnitude)", re.DOTALL)
#: Modules of a layer and outside, as transformers calls them in models like Llama.
_LAYER = {
    **{f"attn.{name}_proj": f"self_attn.{name}_proj" for name in "qkv"},
    "attn.output_proj": "self_attn.o_proj",
    "mlp.w1": "mlp.gate_proj", "mlp.w2": "mlp.down_proj", "mlp.w3": "mlp.up_proj",
}  # fmt: skip
_OUTSIDE = {"output": "lm_head"}
#: transformers' types of model by whether torchtune turns rows of queries and keys.
_TURNED = {"llama": True, "mistral": True, "gemma": True, "gemma2": True, "qwen2": False}
_WAY = "it is `lora_alpha` in the recipe's configuration, and in the `adapter_config.json` that torchtune exports"


class Torchtune(Format):
    name = "torchtune"
    tool = "torchtune"
    called = "a torchtune LoRA"
    folder = False
    asks = frozenset({"alpha", "scale"})
    marks = Marks(
        suffixes=(".pt", ".bin", ".safetensors"),
        files=("adapter_model.pt", "adapter_0.pt"),
        keys=(r".*\.lora_[ab]\.weight",),
    )

    def locate(self, seen: Seen) -> Path | None:
        """What lies beside a configuration is of that: torchtune exports a folder of PEFT's there."""
        if not seen.folder and (seen.path.parent / CONFIG).is_file():
            return None
        return super().locate(seen)

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.checkpoint.skeleton import skeleton
        from adaptr.foreign import placing, saving
        from adaptr.foreign.pieces import assembling, low_rank
        from adaptr.foreign.pieces.module import Module
        from adaptr.foreign.stored import contents

        def said(rank: int) -> Mapping[str, float]:
            return {"alpha": supplied.require_alpha(rank, "the adapter", _WAY)}

        weights = self.weights(path)
        tensors, shapes, metadata = contents(weights)
        model = None if base is None else skeleton(base)
        groups = _grouped(shapes)
        layers = []
        for at in placing.ordered(groups):
            slots = groups[at]
            module = Module(at, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model, said)
            layers.append(_turned(low_rank.read(module), model))
        return assembling.adapter(layers, tensors, str(weights), saving.told(metadata))


def _grouped(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """{transformers' path: {slot: key}}. Raises `TensorUnknown` for what torchtune has no such name for."""
    from adaptr.foreign.pieces.low_rank import DOWN, PEFT_MAGNITUDE, UP

    slots = {"lora_a.weight": DOWN, "lora_b.weight": UP, "magnitude": PEFT_MAGNITUDE}
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        known = (_OUTSIDE if match["number"] is None else _LAYER).get(match["name"], "") if match else ""
        if match is None or not known:
            raise TensorUnknown(
                f"`{shown(key)}` is no tensor of a LoRA of torchtune on a model like Llama",
                hint="save it as PEFT's with torchtune, or the fine-tuned model, and extract the difference",
            )
        path = known if match["number"] is None else f"model.layers.{int(match['number'])}.{known}"
        other = found.setdefault(path, {}).setdefault(slots[match["slot"]], key)
        if other != key:
            raise ConfigConflict(f"`{shown(other)}` and `{shown(key)}` are one tensor", hint=phrases.AGAIN)
    if not found:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    return found


def _turned(layer: Layer, model: nn.Module | None) -> Layer:
    """A layer with its rows as transformers has them."""
    from adaptr.foreign import placing
    from adaptr.foreign.pieces import rotary

    path, name = layer.target.path, layer.target.path.rpartition(".")[2]
    if name not in ("q_proj", "k_proj"):
        return layer
    known = placing.needed(model, path, "torchtune has its rows in an order that goes by the model's heads")
    heads = _heads(known, by_keys=name == "k_proj")
    rows = layer.target.shape[0]
    if heads and rows % (2 * heads):
        raise ConfigConflict(
            f"`{path}`",
            verb="has",
            got=f"{rows} rows",
            want=f"those of {heads} heads",
            hint=phrases.BASE,
        )
    turned = {key: dataclasses.replace(layer.pieces[key], then=partial(rotary.halves, heads))
              for key in ("B", "m") if key in layer.pieces and heads}  # fmt: skip
    return dataclasses.replace(layer, pieces={**layer.pieces, **turned})


def _heads(model: nn.Module, by_keys: bool) -> int:
    """The heads that rows go by, 0 where they are as they are. Raises `Unsupported` for a model of another type."""
    whole: Any = getattr(model, "config", None)
    config: Any = whole.get_text_config() if hasattr(whole, "get_text_config") else None
    kind = str(getattr(config, "model_type", ""))
    if kind not in _TURNED:
        raise Unsupported(
            f"adaptr doesn't know in which order torchtune has the rows of a model of type `{shown(kind)}`",
            hint=f"it knows {phrases.listed(_TURNED)}",
        )
    if not _TURNED[kind]:
        return 0
    queries = int(config.num_attention_heads)
    return int(getattr(config, "num_key_value_heads", None) or queries) if by_keys else queries
