"""Where AdapterHub's library puts things in which model, by paths within a layer.

Models of the first sort have a norm behind the sum of a block and what goes around it, the others none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from adaptr.errors import TensorUnknown, Unsupported, phrases, shown

ATTENTION, FEED_FORWARD = "mh_adapter", "output_adapter"
_LAYER = re.compile(r"(?P<layer>(?:.*\.)?(?:layers?|h)\.\d+)(?:\.(?P<rest>.+))?", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """`field`: what the configuration calls it. `tensors`: the module that has a bottleneck's. `at`: the module whose
    output it changes. `stream`: the module whose input goes around the block. `norm`: what comes behind the sum of
    both, "" for nothing.
    """

    field: str
    tensors: str
    at: str
    stream: str
    norm: str = ""


@dataclass(frozen=True)
class Model:
    """`named`: the class that AdapterHub has for it. `embeddings`: the module whose output the first layer gets.
    `bottlenecks`: where these are. `factors`: the modules that LoRA changes, with the field of the configuration and
    the letter of an attention's.
    """

    named: str
    embeddings: str
    bottlenecks: tuple[Place, ...]
    factors: Mapping[str, tuple[str, str]]


_SELF, _INNER, _OUTER = "selfattn_lora", "intermediate_lora", "output_lora"
_BERT = (
    Place(ATTENTION, "attention.output", "attention.output.dropout", "attention", "attention.output.LayerNorm"),
    Place(FEED_FORWARD, "output", "output.dropout", "intermediate", "output.LayerNorm"),
)
_BERT_FACTORS = {
    **{f"attention.self.{name}": (_SELF, name[0]) for name in ("query", "key", "value")},
    "intermediate.dense": (_INNER, ""),
    "output.dense": (_OUTER, ""),
}
_DISTILBERT = (
    Place(ATTENTION, "attention_adapters", "attention.out_lin", "attention", "sa_layer_norm"),
    Place(FEED_FORWARD, "output_adapters", "ffn", "ffn", "output_layer_norm"),
)
_DISTILBERT_FACTORS = {
    **{f"attention.{letter}_lin": (_SELF, letter) for letter in "qkv"},
    "ffn.lin1": (_INNER, ""),
    "ffn.lin2": (_OUTER, ""),
}
_GPT2 = (
    Place(ATTENTION, "attention_adapters", "attn.resid_dropout", "ln_1"),
    Place(FEED_FORWARD, "output_adapters", "mlp.dropout", "ln_2"),
)
_GPT2_FACTORS = {"attn.c_attn": (_SELF, "qkv"), "mlp.c_fc": (_INNER, ""), "mlp.c_proj": (_OUTER, "")}
_LLAMA = (
    Place(ATTENTION, "attention_adapters", "self_attn.o_proj", "input_layernorm"),
    Place(FEED_FORWARD, "output_adapters", "mlp", "post_attention_layernorm"),
)
#: It has the two of the feed-forward the other way round.
_LLAMA_FACTORS = {
    **{f"self_attn.{letter}_proj": (_SELF, letter) for letter in "qkv"},
    "mlp.down_proj": (_INNER, ""),
    "mlp.up_proj": (_OUTER, ""),
}
MODELS = {
    "bert": Model("BertAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "roberta": Model("RobertaAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "xlm-roberta": Model("XLMRobertaAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "electra": Model("ElectraAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "distilbert": Model("DistilBertAdapterModel", "embeddings", _DISTILBERT, _DISTILBERT_FACTORS),
    "gpt2": Model("GPT2AdapterModel", "drop", _GPT2, _GPT2_FACTORS),
    "llama": Model("LlamaAdapterModel", "embed_tokens", _LLAMA, _LLAMA_FACTORS),
    "mistral": Model("MistralAdapterModel", "embed_tokens", _LLAMA, _LLAMA_FACTORS),
}


def model(model_type: str) -> Model:
    """Raises `Unsupported` for a model that is not known here."""
    if model_type not in MODELS:
        raise Unsupported(
            f"adaptr doesn't know where AdapterHub has its bottlenecks in a model of type `{shown(model_type)}`",
            hint=f"it knows {phrases.listed(MODELS)}",
        )
    return MODELS[model_type]


def divided(path: str) -> tuple[str, str]:
    """(the layer that a module is of, the rest of its path); of none, ("", the path)."""
    match = _LAYER.fullmatch(path)
    return (match["layer"], match["rest"] or "") if match else ("", path)


def joined(layer: str, rest: str) -> str:
    return f"{layer}.{rest}" if rest else layer


def place(path: str, model_type: str) -> tuple[str, Place]:
    """(layer, where the bottleneck whose tensors are at `path` works). Raises `TensorUnknown`, and as `model` does."""
    known = model(model_type)
    layer, rest = divided(path)
    found = next((one for one in known.bottlenecks if layer and one.tensors == rest), None)
    if found is None:
        raise TensorUnknown(
            f"`{shown(path)}` is no module that has bottlenecks in a model of type `{model_type}`", hint=phrases.AGAIN
        )
    return layer, found
