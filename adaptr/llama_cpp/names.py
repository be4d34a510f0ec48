"""The architectures of llama.cpp whose adapters are known: what each calls its layers, and what transformers does.

llama.cpp's names are those of `gguf.TensorNameMap`; which of its many names from elsewhere a model has in transformers,
the model's own classes say. Other architectures may order a layer's rows anew, so none is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from adaptr.adapter import kinds
from adaptr.errors import Unsupported, phrases, shown

EMBEDDINGS, HEAD = "token_embd", "output"
_NUMBER = r"(0|[1-9]\d{0,5})"
#: Where a model with a head has it, alone and as the language model of a larger one.
_HEADS = ("lm_head", "language_model.lm_head")


@dataclass(frozen=True)
class Architecture:
    """`models`: transformers' types of model that are it. `roots`: what the paths of layers may begin with, first in a
    model with a head, and with nothing; `blocks` and `embeddings`: how they go on; `parts`: llama.cpp's name of a layer
    of a block to the rest of its path. `rows`: how llama.cpp orders the outputs of some layers, see `rows`. `kind`: of
    a block's layers.
    """

    models: tuple[str, ...]
    roots: tuple[str, ...]
    blocks: str
    embeddings: str
    parts: Mapping[str, str]
    rows: str = ""
    kind: str = kinds.LINEAR

    def path(self, theirs: str) -> str:
        """What transformers calls `theirs` (such as `blk.0.attn_q`), "" for what is no layer of this architecture."""
        if theirs == EMBEDDINGS:
            return self.roots[0] + self.embeddings
        if theirs == HEAD:
            return _HEADS[0]
        found = re.fullmatch(rf"blk\.{_NUMBER}\.(\w+)", theirs)
        part = self.parts.get(found[2]) if found else None
        return f"{self.roots[0]}{self.blocks}.{found[1]}.{part}" if found and part else ""

    def theirs(self, path: str) -> str:
        """What llama.cpp calls the layer at `path`, "" where it has no LoRA for it."""
        if path in _HEADS:
            return HEAD
        inner = path.removeprefix(max((root for root in self.roots if path.startswith(root)), key=len))
        if inner == self.embeddings:
            return EMBEDDINGS
        found = re.fullmatch(rf"{self.blocks}\.{_NUMBER}\.(.+)", inner)
        part = next((name for name, own in self.parts.items() if found and own == found[2]), "")
        return f"blk.{found[1]}.{part}" if found and part else ""


_LLAMA = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_PHI3 = {
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_GPT2 = {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
_BLOOM = {
    "attn_qkv": "self_attention.query_key_value", "attn_output": "self_attention.dense",
    "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h",
}  # fmt: skip
_MODEL = ("model.", "model.language_model.", "language_model.model.", "")
_TRANSFORMER = ("transformer.", "")


def _like_llama(*models: str, parts: Mapping[str, str] = _LLAMA, rows: str = "") -> Architecture:
    return Architecture(models, _MODEL, "layers", "embed_tokens", parts, rows)


#: By `general.architecture`.
ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _like_llama("llama", "mistral", rows="rotary"),
    "qwen2": _like_llama("qwen2"),
    "qwen3": _like_llama("qwen3"),
    "gemma": _like_llama("gemma"),
    "gemma2": _like_llama("gemma2"),
    "gemma3": _like_llama("gemma3_text", "gemma3"),
    "phi3": _like_llama("phi3", parts=_PHI3),
    "gpt2": Architecture(("gpt2",), _TRANSFORMER, "h", "wte", _GPT2, kind=kinds.layer(transposed=True)),
    "bloom": Architecture(("bloom",), _TRANSFORMER, "h", "word_embeddings", _BLOOM, rows="bloom"),
    "falcon": Architecture(("falcon",), _TRANSFORMER, "h", "word_embeddings", _BLOOM, rows="falcon"),
}


def of(name: str) -> Architecture:
    """Raises `Unsupported` for an architecture of which the names and the order of rows are not known."""
    if name not in ARCHITECTURES:
        raise Unsupported(
            f"adaptr doesn't know how llama.cpp lays out the architecture `{shown(name)}`",
            hint=f"it knows {phrases.listed(ARCHITECTURES)}",
        )
    return ARCHITECTURES[name]


def of_model(model_type: str) -> str:
    """The architecture that transformers' type of model is in llama.cpp. Raises `Unsupported` as `of` does."""
    found = next((name for name, known in ARCHITECTURES.items() if model_type in known.models), "")
    return found or of(model_type).models[0]
