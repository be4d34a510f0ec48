"""The types of models that AdapterHub's library knows, with where it puts what in each."""

from __future__ import annotations

from adaptr_formats.adapterhub.layouts import (
    ATTENTION,
    CROSS,
    FEED_FORWARD,
    INNER,
    OUTER,
    SELF,
    Block,
    Model,
    Place,
)


def _letters(path: str) -> dict[str, tuple[str, str]]:
    return {path.format(letter): (SELF, letter) for letter in "qkv"}


_BERT_PLACES = (
    Place(ATTENTION, "attention.output", "attention.output.dropout", "attention", "attention.output.LayerNorm"),
    Place(FEED_FORWARD, "output", "output.dropout", "intermediate", "output.LayerNorm"),
)
_BERT_INNER = {"intermediate.dense": (INNER, ""), "output.dense": (OUTER, "")}
_WORDS = ("query", "key", "value")
_BERT = Block(_BERT_PLACES, {**{f"attention.self.{name}": (SELF, name[0]) for name in _WORDS}, **_BERT_INNER})
_DEBERTA = Block(_BERT_PLACES, {"attention.self.in_proj": (SELF, "qkv"), **_BERT_INNER})
_DEBERTA2 = Block(_BERT_PLACES, {**{f"attention.self.{name}_proj": (SELF, name[0]) for name in _WORDS}, **_BERT_INNER})
_DISTILBERT = Block(
    (
        Place(ATTENTION, "attention_adapters", "attention.out_lin", "attention", "sa_layer_norm"),
        Place(FEED_FORWARD, "output_adapters", "ffn", "ffn", "output_layer_norm"),
    ),
    {**_letters("attention.{}_lin"), "ffn.lin1": (INNER, ""), "ffn.lin2": (OUTER, "")},
)
_GPT2 = Block(
    (
        Place(ATTENTION, "attention_adapters", "attn.resid_dropout", "ln_1"),
        Place(FEED_FORWARD, "output_adapters", "mlp.dropout", "ln_2"),
    ),
    {"attn.c_attn": (SELF, "qkv"), "mlp.c_fc": (INNER, ""), "mlp.c_proj": (OUTER, "")},
)
#: It has the two of the feed-forward the other way round.
_LLAMA = Block(
    (
        Place(ATTENTION, "attention_adapters", "self_attn.o_proj", "input_layernorm"),
        Place(FEED_FORWARD, "output_adapters", "mlp", "post_attention_layernorm"),
    ),
    {**_letters("self_attn.{}_proj"), "mlp.down_proj": (INNER, ""), "mlp.up_proj": (OUTER, "")},
)
_ALBERT = Block(
    (
        Place(
            ATTENTION, "attention.attention_adapters", "attention.output_dropout", "attention", "attention.LayerNorm",
            turned=True,
        ),
        Place(FEED_FORWARD, "output_adapters", "ffn_output", "ffn", "full_layer_layer_norm"),
    ),
    {**{f"attention.{name}": (SELF, name[0]) for name in _WORDS}, "ffn": (INNER, ""), "ffn_output": (OUTER, "")},
)  # fmt: skip


def _bart(*places: Place) -> tuple[Block, Block]:
    """The layers of a decoder, and of the encoder, which has no attention to another text."""
    own = {**_letters("self_attn.{}_proj"), "fc1": (INNER, ""), "fc2": (OUTER, "")}
    alone = tuple(place for place in places if place.field != CROSS)
    return Block(places, {**own, **_letters("encoder_attn.{}_proj")}), Block(alone, own)


#: Whose sums are normed, and those that norm before.
_BART = _bart(
    Place(ATTENTION, "attention_adapters", "self_attn.out_proj", "self_attn", "self_attn_layer_norm"),
    Place(CROSS, "cross_attention_adapters", "encoder_attn.out_proj", "encoder_attn", "encoder_attn_layer_norm"),
    Place(FEED_FORWARD, "output_adapters", "fc2", "fc1", "final_layer_norm"),
)
_MBART = _bart(
    Place(ATTENTION, "attention_adapters", "self_attn.out_proj", "self_attn_layer_norm"),
    Place(CROSS, "cross_attention_adapters", "encoder_attn.out_proj", "encoder_attn_layer_norm"),
    Place(FEED_FORWARD, "output_adapters", "fc2", "final_layer_norm"),
)


def _t5(*fields: str) -> Block:
    places = tuple(Place(field, f"layer.{n}", f"layer.{n}.dropout", f"layer.{n}") for n, field in enumerate(fields))
    inner = f"layer.{len(fields) - 1}.DenseReluDense"
    attentions = ("layer.0.SelfAttention", "layer.1.EncDecAttention")[: len(fields) - 1]
    return Block(
        places,
        {f"{attention}.{letter}": (SELF, letter) for attention in attentions for letter in "qkv"}
        | {f"{inner}.{name}": (INNER, "") for name in ("wi", "wi_1")}
        | {f"{inner}.wo": (OUTER, "")},
    )


_T5 = (_t5(ATTENTION, CROSS, FEED_FORWARD), _t5(ATTENTION, FEED_FORWARD))
#: Its feed-forward stands beside its attention: what goes around it has the attention's output in it.
_GPTJ = Block(
    (
        Place(ATTENTION, "attention_adapters", "attn.resid_dropout", "ln_1"),
        Place(FEED_FORWARD, "output_adapters", "mlp.dropout", ""),
    ),
    {**_letters("attn.{}_proj"), "mlp.fc_in": (INNER, ""), "mlp.fc_out": (OUTER, "")},
)
_VIT_FACTORS = {**{f"attention.attention.{name}": (SELF, name[0]) for name in _WORDS}, **_BERT_INNER}
_VIT = Block(
    (
        Place(ATTENTION, "attention_adapters", "attention.output.dense", "layernorm_before"),
        Place(FEED_FORWARD, "output.output_adapters", "output.dense", "layernorm_after", same="mlp"),
    ),
    _VIT_FACTORS,
    "attention.attention",
)
_CLIP = Block(
    (
        Place(ATTENTION, "attention_adapters", "self_attn.out_proj", "layer_norm1"),
        Place(FEED_FORWARD, "output_adapters", "mlp", "layer_norm2"),
    ),
    {**_letters("self_attn.{}_proj"), "mlp.fc1": (INNER, ""), "mlp.fc2": (OUTER, "")},
)
MODELS = {
    "bert": Model("BertAdapterModel", "embeddings", _BERT),
    "roberta": Model("RobertaAdapterModel", "embeddings", _BERT),
    "xlm-roberta": Model("XLMRobertaAdapterModel", "embeddings", _BERT),
    "electra": Model("ElectraAdapterModel", "embeddings", _BERT),
    "distilbert": Model("DistilBertAdapterModel", "embeddings", _DISTILBERT),
    "gpt2": Model("GPT2AdapterModel", "drop", _GPT2),
    "llama": Model("LlamaAdapterModel", "embed_tokens", _LLAMA),
    "mistral": Model("MistralAdapterModel", "embed_tokens", _LLAMA),
    "albert": Model("AlbertAdapterModel", "", _ALBERT),
    "bert-generation": Model("BertGenerationAdapterModel", "embeddings", _BERT),
    "deberta": Model("DebertaAdapterModel", "embeddings", _DEBERTA),
    "deberta-v2": Model("DebertaV2AdapterModel", "embeddings", _DEBERTA2),
    "bart": Model("BartAdapterModel", "", *_BART),
    "mbart": Model("MBartAdapterModel", "", *_MBART),
    "plbart": Model("PLBartAdapterModel", "", *_BART),
    "whisper": Model("WhisperAdapterModel", "", *_MBART),
    "t5": Model("T5AdapterModel", "", *_T5),
    "mt5": Model("MT5AdapterModel", "", *_T5),
    "gptj": Model("GPTJAdapterModel", "drop", _GPTJ),
    "vit": Model("ViTAdapterModel", "", _VIT),
    "beit": Model("BeitAdapterModel", "", Block((), _VIT_FACTORS, _VIT.attention)),
    "clip": Model("CLIPAdapterModel", "embeddings", _CLIP),
    "clip_text_model": Model("CLIPAdapterModel", "embeddings", _CLIP, prefix="text_model."),
    "clip_vision_model": Model("CLIPAdapterModel", "embeddings", _CLIP, prefix="vision_model."),
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
