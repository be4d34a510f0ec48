"""Where AdapterHub's library puts things in which type of model, by paths within a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ATTENTION, FEED_FORWARD, CROSS = "mh_adapter", "output_adapter", "cross_adapter"


@dataclass(frozen=True)
class Place:
    """`field`: what the configuration calls it. `tensors`: the module that has a bottleneck's. `at`: the module whose
    output it changes. `stream`: the module whose input goes around the block, "" where none has it. `norm`: what comes
    behind the sum of both, "" for nothing. `turned`: whether its library takes the two for each other, so that what it
    has behind the block is beside it.
    """

    field: str
    tensors: str
    at: str
    stream: str
    norm: str = ""
    turned: bool = False


@dataclass(frozen=True)
class Model:
    """`named`: the class that AdapterHub has for it. `embeddings`: the module whose output the first layer gets, ""
    where it is none. `bottlenecks`: where these are. `factors`: the modules that LoRA changes, with the field of the
    configuration and the letter of an attention's; none of types that are read alone.
    """

    named: str
    embeddings: str
    bottlenecks: tuple[Place, ...]
    factors: Mapping[str, tuple[str, str]] = field(default_factory=dict)


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
_ALBERT = (
    Place(
        ATTENTION, "attention.attention_adapters", "attention.output_dropout", "attention", "attention.LayerNorm", True
    ),
    Place(FEED_FORWARD, "output_adapters", "ffn_output", "ffn", "full_layer_layer_norm"),
)
#: Of an encoder and a decoder, whose sums are normed; and of those that norm before.
_BART = (
    Place(ATTENTION, "attention_adapters", "self_attn.out_proj", "self_attn", "self_attn_layer_norm"),
    Place(CROSS, "cross_attention_adapters", "encoder_attn.out_proj", "encoder_attn", "encoder_attn_layer_norm"),
    Place(FEED_FORWARD, "output_adapters", "fc2", "fc1", "final_layer_norm"),
)
_MBART = (
    Place(ATTENTION, "attention_adapters", "self_attn.out_proj", "self_attn_layer_norm"),
    Place(CROSS, "cross_attention_adapters", "encoder_attn.out_proj", "encoder_attn_layer_norm"),
    Place(FEED_FORWARD, "output_adapters", "fc2", "final_layer_norm"),
)
#: The second is a decoder's attention to the other text, or an encoder's feed-forward.
_T5 = tuple(
    Place(field, f"layer.{n}", f"layer.{n}.dropout", f"layer.{n}")
    for n, field in enumerate((ATTENTION, CROSS, FEED_FORWARD))
)
#: Its feed-forward stands beside its attention: what goes around it has the attention's output in it.
_GPTJ = (
    Place(ATTENTION, "attention_adapters", "attn.resid_dropout", "ln_1"),
    Place(FEED_FORWARD, "output_adapters", "mlp.dropout", ""),
)
_VIT = (
    Place(ATTENTION, "attention_adapters", "attention.output.dense", "layernorm_before"),
    Place(FEED_FORWARD, "output.output_adapters", "output.dense", "layernorm_after"),
)
_CLIP = (
    Place(ATTENTION, "attention_adapters", "self_attn.out_proj", "layer_norm1"),
    Place(FEED_FORWARD, "output_adapters", "mlp", "layer_norm2"),
)
MODELS = {
    "bert": Model("BertAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "roberta": Model("RobertaAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "xlm-roberta": Model("XLMRobertaAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "electra": Model("ElectraAdapterModel", "embeddings", _BERT, _BERT_FACTORS),
    "distilbert": Model("DistilBertAdapterModel", "embeddings", _DISTILBERT, _DISTILBERT_FACTORS),
    "gpt2": Model("GPT2AdapterModel", "drop", _GPT2, _GPT2_FACTORS),
    "llama": Model("LlamaAdapterModel", "embed_tokens", _LLAMA, _LLAMA_FACTORS),
    "mistral": Model("MistralAdapterModel", "embed_tokens", _LLAMA, _LLAMA_FACTORS),
    "albert": Model("AlbertAdapterModel", "", _ALBERT),
    "bert-generation": Model("BertGenerationAdapterModel", "embeddings", _BERT),
    "deberta": Model("DebertaAdapterModel", "embeddings", _BERT),
    "deberta-v2": Model("DebertaV2AdapterModel", "embeddings", _BERT),
    "bart": Model("BartAdapterModel", "", _BART),
    "mbart": Model("MBartAdapterModel", "", _MBART),
    "plbart": Model("PLBartAdapterModel", "", _BART),
    "whisper": Model("WhisperAdapterModel", "", _MBART),
    "t5": Model("T5AdapterModel", "", _T5),
    "mt5": Model("MT5AdapterModel", "", _T5),
    "gptj": Model("GPTJAdapterModel", "drop", _GPTJ),
    "vit": Model("ViTAdapterModel", "", _VIT),
    "clip": Model("CLIPAdapterModel", "embeddings", _CLIP),
    "clip_text_model": Model("CLIPAdapterModel", "embeddings", _CLIP),
    "clip_vision_model": Model("CLIPAdapterModel", "embeddings", _CLIP),
}
#: Types of which bottlenecks are not read, and why.
REFUSED = {
    "beit": "what they are behind is multiplied by a parameter of the layer, and no module has that for its output",
    "encoder-decoder": "it is two models of types that the file doesn't say",
}
#: A type of which nothing is read: its library takes out X-MOD's own language adapters, which transformers' model has.
EMPTIED = "xmod"
#: A type whose fused layer its library gives a bias that it draws at random at each load, and does not save.
BIASED = "deberta"
