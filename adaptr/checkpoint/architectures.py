"""Architectures that are drawn from their configuration without torch: decoders, mostly of llama's kind.

A table is right only where it says what transformers builds: `tests/checkpoint/test_architectures.py` holds each entry
against the class on the meta device, names and shapes. What is in no table is built there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptr.adapter.kinds import LINEAR, LINEAR_T, NORM, PLACE, TABLE
from adaptr.contract.sketch import Drawn, Numbers, Sketch

#: (path, kind, names of sizes, when there is a bias: "", "always", or a field of the configuration that says so)
Row = tuple[str, str, str, str]
LAYER = "model.layers.{n}."
ALWAYS = "always"


def _attention(bias: str = "attention_bias", out_bias: str = "attention_bias") -> tuple[Row, ...]:
    sides = (("q_proj", "q d", bias), ("k_proj", "kv d", bias), ("v_proj", "kv d", bias), ("o_proj", "d q", out_bias))
    return tuple((f"{LAYER}self_attn.{name}", LINEAR, axes, said) for name, axes, said in sides)


def _gated(bias: str = "mlp_bias") -> tuple[Row, ...]:
    sides = (("gate_proj", "ff d"), ("up_proj", "ff d"), ("down_proj", "d ff"))
    return tuple((f"{LAYER}mlp.{name}", LINEAR, axes, bias) for name, axes in sides)


def _norms(*names: str) -> tuple[Row, ...]:
    return tuple((LAYER + name, NORM, "d", "") for name in names)


TABLE_ROW: Row = ("model.embed_tokens", TABLE, "d vocab", "")
LAST: tuple[Row, ...] = (("model.norm", NORM, "d", ""),)
HEAD: Row = ("lm_head", LINEAR, "vocab d", "")
TWO = _norms("input_layernorm", "post_attention_layernorm")
AFTER = _norms("post_attention_layernorm", "post_feedforward_layernorm")
FOUR = (*TWO, *_norms("pre_feedforward_layernorm", "post_feedforward_layernorm"))
HEADS: tuple[Row, ...] = tuple((f"{LAYER}self_attn.{name}", NORM, "hd", "") for name in ("q_norm", "k_norm"))
WIDE: tuple[Row, ...] = ((f"{LAYER}self_attn.q_norm", NORM, "q", ""), (f"{LAYER}self_attn.k_norm", NORM, "kv", ""))
FUSED: tuple[Row, ...] = (
    (f"{LAYER}self_attn.qkv_proj", LINEAR, "qkv d", ""),
    (f"{LAYER}self_attn.o_proj", LINEAR, "d q", ""),
    (f"{LAYER}mlp.gate_up_proj", LINEAR, "ff2 d", ""),
    (f"{LAYER}mlp.down_proj", LINEAR, "d ff", ""),
    (f"{LAYER}resid_attn_dropout", PLACE, "d", ""),
    (f"{LAYER}resid_mlp_dropout", PLACE, "d", ""),
)
GPT2: tuple[Row, ...] = (
    ("transformer.wte", TABLE, "d vocab", ""),
    ("transformer.wpe", TABLE, "d positions", ""),
    ("transformer.h.{n}.ln_1", NORM, "d", ALWAYS),
    ("transformer.h.{n}.attn.c_attn", LINEAR_T, "qkv d", ALWAYS),
    ("transformer.h.{n}.attn.c_proj", LINEAR_T, "d d", ALWAYS),
    ("transformer.h.{n}.attn.resid_dropout", PLACE, "d", ""),
    ("transformer.h.{n}.ln_2", NORM, "d", ALWAYS),
    ("transformer.h.{n}.mlp.c_fc", LINEAR_T, "ff d", ALWAYS),
    ("transformer.h.{n}.mlp.c_proj", LINEAR_T, "d ff", ALWAYS),
    ("transformer.h.{n}.mlp.dropout", PLACE, "d", ""),
    ("transformer.ln_f", NORM, "d", ALWAYS),
    HEAD,
)
#: What llama's kind calls its sizes; "?" behind those that may be left out.
NAMES = {
    "d": "hidden_size",
    "ff": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "groups": "num_key_value_heads?",
    "hd": "head_dim?",
    "vocab": "vocab_size",
}
GPT2_NAMES = {"d": "n_embd", "layers": "n_layer", "heads": "n_head", "ff": "n_inner?", "vocab": "vocab_size"}


@dataclass(frozen=True)
class Architecture:
    """`rows`: its layers. `names`: what it calls its sizes. `tied`: whether head and embeddings are, where nothing is
    said. `must`: sizes that it has other defaults for than what follows from the others. `model`: the class.
    """

    model: str
    rows: tuple[Row, ...]
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    tied: bool = False
    must: frozenset[str] = frozenset({"groups"})


def _llama(model: str, *rows: Row, **more: Any) -> Architecture:
    return Architecture(model, (TABLE_ROW, *rows, *LAST, HEAD), **more)


KNOWN: Mapping[str, Architecture] = {
    "llama": _llama("LlamaForCausalLM", *_attention(), *_gated(), *TWO, must=frozenset()),
    "mistral": _llama("MistralForCausalLM", *_attention("", ""), *_gated(""), *TWO),
    "qwen2": _llama("Qwen2ForCausalLM", *_attention(ALWAYS, ""), *_gated(""), *TWO),
    "qwen3": _llama("Qwen3ForCausalLM", *_attention(), *_gated(""), *HEADS, *TWO, must=frozenset({"groups", "hd"})),
    "gemma": _llama("GemmaForCausalLM", *_attention(), *_gated(""), *TWO, tied=True, must=frozenset({"groups", "hd"})),
    "gemma2": _llama(
        "Gemma2ForCausalLM", *_attention(), *_gated(""), *FOUR, tied=True, must=frozenset({"groups", "hd"})
    ),
    "phi3": _llama("Phi3ForCausalLM", *FUSED, *TWO, must=frozenset()),
    "smollm3": _llama("SmolLM3ForCausalLM", *_attention(), *_gated(), *TWO, tied=True),
    "granite": _llama("GraniteForCausalLM", *_attention(), *_gated(), *TWO, must=frozenset()),
    "olmo2": _llama("Olmo2ForCausalLM", *_attention(), *_gated(""), *WIDE, *AFTER, must=frozenset()),
    "gpt2": Architecture("GPT2LMHeadModel", GPT2, GPT2_NAMES, tied=True, must=frozenset()),
}


def drawn(config: Mapping[str, Any]) -> Sketch | None:
    """The model of a configuration; None where no table says for sure what transformers would build."""
    known = KNOWN.get(str(config.get("model_type")))
    named = config.get("architectures") or [known.model if known else ""]
    if known is None or named != [known.model]:
        return None
    sizes = _sizes(config, known)
    if sizes is None:
        return None
    return _built(config, known, sizes)


def _sizes(config: Mapping[str, Any], known: Architecture) -> dict[str, int] | None:
    sizes: dict[str, int] = {}
    for size, name in known.names.items():
        value = config.get(name.rstrip("?"))
        if isinstance(value, bool) or not isinstance(value, int | None) or (value is not None and value < 1):
            return None
        if value is None and (size in known.must or not name.endswith("?")):
            return None
        if value is not None:
            sizes[size] = value
    d, heads = sizes["d"], sizes["heads"]
    sizes = {"ff": 4 * d, "groups": heads, "hd": d // heads, "positions": config.get("n_positions", 1024), **sizes}
    q, kv = heads * sizes["hd"], sizes["groups"] * sizes["hd"]
    return {**sizes, "q": q, "kv": kv, "qkv": q + 2 * kv, "ff2": 2 * sizes["ff"]}


def _built(config: Mapping[str, Any], known: Architecture, sizes: Mapping[str, int]) -> Sketch:
    groups = {"num_key_value_heads": sizes["groups"], "head_dim": sizes["hd"]}
    made = Sketch({**config, **groups}, known.rows[0][0], HEAD[0])
    for row in known.rows:
        if "{n}" not in row[0]:
            _put(made, row[0], row, config, sizes)
    for n in range(sizes["layers"]):
        for row in known.rows:
            if "{n}" in row[0]:
                _put(made, row[0].replace("{n}", str(n)), row, config, sizes)
    if config.get("tie_word_embeddings", known.tied):
        made.get_submodule(HEAD[0])._parameters["weight"] = made.get_input_embeddings()._parameters["weight"]
    return made


def _put(model: Sketch, path: str, row: Row, config: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    _, kind, names, bias = row
    at: Drawn = model
    for name in path.split("."):
        at = at.child(name)
    if kind == PLACE:
        return
    at.kind, at.shape = kind, tuple(sizes[name] for name in names.split())
    stored = at.shape[::-1] if kind in {TABLE, LINEAR_T} else at.shape
    at._parameters["weight"] = Numbers(stored)
    if bias == ALWAYS or (bias and config.get(bias)):
        at._parameters["bias"] = Numbers(at.shape[:1])
