"""Where things are in models: roles and places as patterns over module paths.

A role is an ordered list of patterns; the first that matches anything in a model is the one that counts. `{n}` in a
pattern is a layer number. What each finds in thirty architectures is pinned in tests/targets/pinned.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection

#: A feed-forward, or the experts of one.
MLP = r"(mlp|experts|shared_experts?)"

#: Layers with a weight.
ROLES: dict[str, tuple[str, ...]] = {
    "attn.q": (
        r"(self_attn|encoder_attn|attn|attention|SelfAttention|EncDecAttention)\.(q_proj|q_lin|q)",
        r"attention\.((self|attention)\.)?query(_proj)?",
    ),
    "attn.k": (
        r"(self_attn|encoder_attn|attn|attention|SelfAttention|EncDecAttention)\.(k_proj|k_lin|k)",
        r"attention\.((self|attention)\.)?key(_proj)?",
    ),
    "attn.v": (
        r"(self_attn|encoder_attn|attn|attention|SelfAttention|EncDecAttention)\.(v_proj|v_lin|v)",
        r"attention\.((self|attention)\.)?value(_proj)?",
    ),
    "attn.qkv": (
        r"(self_attn|attn|attention|self_attention|mixer)\.(c_attn|query_key_value|qkv_proj|Wqkv|in_proj|qkv)",
        r"attention\.self\.in_proj",
    ),
    "attn.o": (
        r"(self_attn|encoder_attn|attn|attention|SelfAttention|EncDecAttention)\.(o_proj|out_proj|out_lin|o)",
        r"attention\.output\.dense",
        r"attn\.(c_proj|Wo)",
        r"(attention|self_attention|self_attn)\.dense",
    ),
    # of a mixture's layers some may be dense, and some experts shared
    "mlp.gate": (rf"{MLP}\.(gate_proj|gate_up_proj|Wi)", r"DenseReluDense\.wi_0"),
    "mlp.up": (
        rf"{MLP}\.(up_proj|gate_up_proj|fc1|c_fc|dense_h_to_4h|Wi)",
        r"DenseReluDense\.(wi_1|wi)",
        r"intermediate\.dense",
        r"ffn\.lin1",
        r"layers\.{n}\.fc1",
        r"albert_layers\.{n}\.ffn",
    ),
    "mlp.down": (
        rf"{MLP}\.(down_proj|fc2|c_proj|dense_4h_to_h|Wo)",
        r"DenseReluDense\.wo",
        r"(?<!attention\.)output\.dense",
        r"ffn\.lin2",
        r"layers\.{n}\.fc2",
        r"albert_layers\.{n}\.ffn_output",
    ),
    "embed": (r"(embed_tokens|wte|word_embeddings|embed_in|token_embedding|tok_embeddings)", r"shared"),
    "head": (r"(lm_head|score|embed_out|proj_out|qa_outputs)", r"classifier(\..*)?"),
    "norm": (r"\w*(norm|Norm|ln_)\w*",),
}

#: Places: modules whose output is taken after the sub-layer's last dropout, before the residual sum; and whole blocks,
#: whose output is taken behind both sums.
PLACES: dict[str, tuple[str, ...]] = {
    "attn_out": (
        r"(encoder|decoder)\.block\.{n}\.layer\.0\.dropout",
        r"attention\.output\.dropout",
        r"attn\.resid_dropout",
        r"layers\.{n}\.(post_attention_dropout|resid_attn_dropout)",
        r"attention\.output_dropout",
        r"attn\.out_drop",
        r"self_attn\.(o_proj|out_proj|dense)",
        r"attention\.(o_proj|out_lin)",
        r"self_attention\.dense",
    ),
    "embeddings": (r"embeddings", r"(embed_tokens|wte|embed_in|word_embeddings)"),
    "block_out": (r"(blocks?|layers|h|(encoder|transformer)\.layer|albert_layers)\.{n}",),
    "ffn_out": (
        r"(encoder\.block\.{n}\.layer\.1|decoder\.block\.{n}\.layer\.2)\.dropout",
        r"(?<!attention\.)output\.dropout",
        r"layers\.{n}\.(fc2|post_mlp_dropout|resid_mlp_dropout)",
        r"mlp\.dropout",
        r"layer\.{n}\.ffn",
        r"albert_layers\.{n}\.ffn_output",
        r"h\.{n}\.mlp\.dense_4h_to_h",
        r"mlp",
    ),
}

#: Model types (of `config.json`) whose linear layers are stored as (in, out).
CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "gpt_bigcode_conv1d"})

#: Attention modules, whose keys and values a prefix extends.
ATTENTION: tuple[str, ...] = (
    r"layer\.{n}\.(SelfAttention|EncDecAttention)",
    r"attention\.self",
    r"(self_attn|encoder_attn)",
    r"(h|layers)\.{n}\.attn",
    r"(layers?|albert_layers)\.{n}\.attention",
)

#: All that is found by what it is for.
ALL: dict[str, tuple[str, ...]] = {**ROLES, **PLACES, "attention": ATTENTION}

#: For a module of `ffn_out`, the module whose input is the feed-forward's input ("" is the module itself).
FFN_INPUT: tuple[tuple[str, str], ...] = (
    (r"(.*\.layer\.\d+)\.dropout", r"\1.DenseReluDense"),
    (r"(.*)\.output\.dropout", r"\1.intermediate"),
    (r"(.*)\.fc2", r"\1.fc1"),
    (r"(.*)\.mlp\.(dropout|dense_4h_to_h)", r"\1.mlp"),
    (r"(.*)\.(post|resid)_mlp_dropout", r"\1.mlp"),
    (r"(.*)\.ffn_output", r"\1.ffn"),
    (r"(.*)", ""),
)

#: For a module of `ffn_out`: the norm that its sum with the residual goes into, in models that norm their sums. There
#: the feed-forward's input is the residual.
SUM_NORM: tuple[tuple[str, str], ...] = (
    (r"(?!.*attention\.)(.*)\.output\.dropout", r"\1.output.LayerNorm"),
    (r"(.*\.layer\.\d+)\.ffn", r"\1.output_layer_norm"),
    (r"(.*)\.ffn_output", r"\1.full_layer_layer_norm"),
    (r"(.*)\.fc2", r"\1.final_layer_norm"),
)

#: Model types whose `final_layer_norm` is behind the feed-forward's sum. In others of that layout it is before it.
SUM_NORM_MODELS = frozenset({"bart", "marian", "blenderbot-small", "plbart", "mvp", "led"})

#: For a module of `ffn_out` in models that norm before: the module whose input is the residual, by ends of its
#: path the first there is.
RESIDUAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(.*\.layer\.\d+)\.dropout", ("",)),
    (
        r"(.*)\.(?:mlp(?:\.\w+)?|post_mlp_dropout)",
        (".pre_feedforward_layernorm", ".post_attention_layernorm", ".layernorm_after", ".layer_norm2", ".ln_2"),
    ),
    (r"(.*)\.fc2", (".final_layer_norm",)),
)


def compiled(pattern: str) -> str:
    """A pattern as a regular expression that must match the end of a path, on whole components."""
    return rf"(.*\.)?{pattern.replace('{n}', chr(92) + 'd+')}"


def has(path: str, role: str) -> bool:
    """Whether a module path has a role by its name."""
    return any(re.fullmatch(compiled(pattern), path) for pattern in ALL[role])


def ffn_input(path: str) -> str:
    """The module whose input is the input of the feed-forward whose output is at `path`; "" for `path` itself."""
    for pattern, source in FFN_INPUT:
        found = re.fullmatch(pattern, path)
        if found:
            return found.expand(source) if source else ""
    return ""


def sum_norm(path: str, model_type: str, modules: Collection[str]) -> str:
    """The norm that the feed-forward's output at `path` goes into, summed with the residual; "" where it is before."""
    pairs = SUM_NORM if model_type in SUM_NORM_MODELS else SUM_NORM[:-1]
    found = next((match.expand(norm) for pattern, norm in pairs if (match := re.fullmatch(pattern, path))), "")
    return found if found in modules else ""


def residual(path: str, modules: Collection[str]) -> str:
    """The module whose input is summed with the feed-forward's output at `path`; "" where none is known."""
    for pattern, names in RESIDUAL:
        found = re.fullmatch(pattern, path)
        if found:
            return next((found[1] + name for name in names if found[1] + name in modules), "")
    return ""


def is_embedding(name: str) -> bool:
    """Whether a tensor is an input embedding, by its name."""
    return name.removesuffix(".weight").rpartition(".")[2] in {
        "embed_tokens",
        "wte",
        "word_embeddings",
        "shared",
        "embed_in",
        "token_embedding",
        "tok_embeddings",
    }
