"""What roles and places find in the first layer of thirty architectures, and outside of the layers."""

from __future__ import annotations

LLAMA = {
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "norm": "input_layernorm post_attention_layernorm",
    "attn_out": "self_attn.o_proj",
    "ffn_out": "mlp",
    "attention": "self_attn",
}
GEMMA = {
    **LLAMA,
    "norm": "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm",
}
EXPERTS = {
    **LLAMA,
    "mlp.gate": "mlp.experts.gate_up_proj",
    "mlp.up": "mlp.experts.gate_up_proj",
    "mlp.down": "mlp.experts.down_proj",
}
FUSED = {
    "mlp.up": "mlp.dense_h_to_4h",
    "mlp.down": "mlp.dense_4h_to_h",
    "norm": "input_layernorm post_attention_layernorm",
}
BERT = {
    "attn.q": "attention.self.query",
    "attn.k": "attention.self.key",
    "attn.v": "attention.self.value",
    "attn.o": "attention.output.dense",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "norm": "attention.output.LayerNorm output.LayerNorm",
    "attn_out": "attention.output.dropout",
    "ffn_out": "output.dropout < intermediate",
    "attention": "attention.self",
}
DEBERTA = {
    **{role: f"{names}_proj" if role[-2:] in {".q", ".k", ".v"} else names for role, names in BERT.items()},
}
BART = {
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.out_proj",
    "mlp.up": "fc1",
    "mlp.down": "fc2",
    "norm": "self_attn_layer_norm final_layer_norm",
    "attn_out": "self_attn.out_proj",
    "ffn_out": "fc2 < fc1",
    "attention": "self_attn",
}
CROSS = {
    **{
        role: f"{names} {names.replace('self_attn', 'encoder_attn')}" for role, names in BART.items() if "attn." in role
    },
    "norm": "self_attn_layer_norm encoder_attn_layer_norm final_layer_norm",
    "attention": "self_attn encoder_attn",
}
CLIP = {
    **{k: v for k, v in BART.items() if k.startswith("att")},
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "norm": "layer_norm1 layer_norm2",
    "ffn_out": "mlp",
}
T5 = {
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "mlp.up": "layer.1.DenseReluDense.wi",
    "mlp.down": "layer.1.DenseReluDense.wo",
    "norm": "layer.0.layer_norm layer.1.layer_norm",
    "attn_out": "layer.0.dropout",
    "ffn_out": "layer.1.dropout < layer.1.DenseReluDense",
    "attention": "layer.0.SelfAttention",
}
T5_DECODER = {
    **{f"attn.{x}": f"layer.0.SelfAttention.{x} layer.1.EncDecAttention.{x}" for x in "qkvo"},
    "mlp.up": "layer.2.DenseReluDense.wi",
    "mlp.down": "layer.2.DenseReluDense.wo",
    "norm": "layer.0.layer_norm layer.1.layer_norm layer.2.layer_norm",
    "attn_out": "layer.0.dropout",
    "ffn_out": "layer.2.dropout < layer.2.DenseReluDense",
    "attention": "layer.0.SelfAttention layer.1.EncDecAttention",
}


def gated(stack: dict[str, str]) -> dict[str, str]:
    number = stack["ffn_out"].split(".")[1]
    inner = f"layer.{number}.DenseReluDense"
    return {**stack, "mlp.gate": f"{inner}.wi_0", "mlp.up": f"{inner}.wi_1"}


#: (model, its first layer, {role: names in that layer}). `place < module`: a place and the module whose input is read.
PINNED = [
    ("llama", "model.layers.0", LLAMA),
    ("mistral", "model.layers.0", LLAMA),
    ("qwen2", "model.layers.0", LLAMA),
    ("gemma2", "model.layers.0", GEMMA),
    ("gemma3", "model.layers.0", {**GEMMA, "norm": "self_attn.q_norm self_attn.k_norm " + GEMMA["norm"]}),
    ("mixtral", "model.layers.0", EXPERTS),
    ("gpt-oss", "model.layers.0", EXPERTS),
    ("qwen3", "model.layers.0", {**LLAMA, "norm": f"self_attn.q_norm self_attn.k_norm {LLAMA['norm']}"}),
    (
        "phi",
        "model.layers.0",
        {
            **{role: names for role, names in LLAMA.items() if role != "mlp.gate"},
            "attn.o": "self_attn.dense",
            "mlp.up": "mlp.fc1",
            "mlp.down": "mlp.fc2",
            "norm": "input_layernorm",
            "attn_out": "self_attn.dense",
        },
    ),
    (
        "phi3",
        "model.layers.0",
        {
            "attn.qkv": "self_attn.qkv_proj",
            "attn.o": "self_attn.o_proj",
            "mlp.gate": "mlp.gate_up_proj",
            "mlp.up": "mlp.gate_up_proj",
            "mlp.down": "mlp.down_proj",
            "norm": LLAMA["norm"],
            "attn_out": "resid_attn_dropout",
            "ffn_out": "resid_mlp_dropout < mlp",
            "attention": "self_attn",
        },
    ),
    (
        "qwen2-moe",
        "model.layers.0",
        {
            **EXPERTS,
            "mlp.gate": f"{EXPERTS['mlp.gate']} mlp.shared_expert.gate_proj",
            "mlp.up": f"{EXPERTS['mlp.up']} mlp.shared_expert.up_proj",
            "mlp.down": f"{EXPERTS['mlp.down']} mlp.shared_expert.down_proj",
        },
    ),
    ("qwen3-moe", "model.layers.0", {**EXPERTS, "norm": f"self_attn.q_norm self_attn.k_norm {LLAMA['norm']}"}),
    ("qwen3-moe", "model.layers.1", {**LLAMA, "norm": f"self_attn.q_norm self_attn.k_norm {LLAMA['norm']}"}),
    (
        "gpt2",
        "transformer.h.0",
        {
            "attn.qkv": "attn.c_attn",
            "attn.o": "attn.c_proj",
            "mlp.up": "mlp.c_fc",
            "mlp.down": "mlp.c_proj",
            "norm": "ln_1 ln_2",
            "attn_out": "attn.resid_dropout",
            "ffn_out": "mlp.dropout < mlp",
            "attention": "attn",
        },
    ),
    (
        "neox",
        "gpt_neox.layers.0",
        {
            **FUSED,
            "attn.qkv": "attention.query_key_value",
            "attn.o": "attention.dense",
            "attn_out": "post_attention_dropout",
            "ffn_out": "post_mlp_dropout < mlp",
            "attention": "attention",
        },
    ),
    (
        "bloom",
        "transformer.h.0",
        {
            **FUSED,
            "attn.qkv": "self_attention.query_key_value",
            "attn.o": "self_attention.dense",
            "attn_out": "self_attention.dense",
            "ffn_out": "mlp.dense_4h_to_h < mlp",
        },
    ),
    (
        "falcon",
        "transformer.h.0",
        {
            **FUSED,
            "attn.qkv": "self_attention.query_key_value",
            "attn.o": "self_attention.dense",
            "norm": "input_layernorm",
            "attn_out": "self_attention.dense",
            "ffn_out": "mlp.dense_4h_to_h < mlp",
        },
    ),
    ("opt", "model.decoder.layers.0", BART),
    ("bert", "bert.encoder.layer.0", BERT),
    ("roberta", "roberta.encoder.layer.0", BERT),
    (
        "modernbert",
        "model.layers.1",
        {
            "attn.qkv": "attn.Wqkv",
            "attn.o": "attn.Wo",
            "mlp.gate": "mlp.Wi",
            "mlp.up": "mlp.Wi",
            "mlp.down": "mlp.Wo",
            "norm": "attn_norm mlp_norm",
            "attn_out": "attn.out_drop",
            "ffn_out": "mlp",
            "attention": "attn",
        },
    ),
    (
        "deberta",
        "deberta.encoder.layer.0",
        {
            **{role: names for role, names in BERT.items() if role not in {"attn.q", "attn.k", "attn.v"}},
            "attn.qkv": "attention.self.in_proj",
        },
    ),
    ("deberta-v2", "deberta.encoder.layer.0", DEBERTA),
    (
        "distilbert",
        "distilbert.transformer.layer.0",
        {
            "attn.q": "attention.q_lin",
            "attn.k": "attention.k_lin",
            "attn.v": "attention.v_lin",
            "attn.o": "attention.out_lin",
            "mlp.up": "ffn.lin1",
            "mlp.down": "ffn.lin2",
            "norm": "sa_layer_norm output_layer_norm",
            "attn_out": "attention.out_lin",
            "ffn_out": "ffn",
            "attention": "attention",
        },
    ),
    (
        "albert",
        "albert.encoder.albert_layer_groups.0.albert_layers.0",
        {
            "attn.q": "attention.query",
            "attn.k": "attention.key",
            "attn.v": "attention.value",
            "attn.o": "attention.dense",
            "mlp.up": "ffn",
            "mlp.down": "ffn_output",
            "norm": "full_layer_layer_norm attention.LayerNorm",
            "attn_out": "attention.output_dropout",
            "ffn_out": "ffn_output < ffn",
            "attention": "attention",
        },
    ),
    ("t5", "encoder.block.0", T5),
    ("t5", "decoder.block.0", T5_DECODER),
    ("t5-gated", "encoder.block.0", gated(T5)),
    ("t5-gated", "decoder.block.0", gated(T5_DECODER)),
    ("bart", "model.encoder.layers.0", BART),
    ("bart", "model.decoder.layers.0", {**BART, **CROSS}),
    ("whisper", "model.encoder.layers.0", BART),
    ("whisper", "model.decoder.layers.0", {**BART, **CROSS}),
    (
        "vit",
        "vit.layers.0",
        {
            "attn.q": "attention.q_proj",
            "attn.k": "attention.k_proj",
            "attn.v": "attention.v_proj",
            "attn.o": "attention.o_proj",
            "mlp.up": "mlp.fc1",
            "mlp.down": "mlp.fc2",
            "norm": "layernorm_before layernorm_after",
            "attn_out": "attention.o_proj",
            "ffn_out": "mlp",
            "attention": "attention",
        },
    ),
    ("clip", "text_model.encoder.layers.0", CLIP),
    ("clip", "vision_model.encoder.layers.0", CLIP),
]
OUTSIDE = {
    "llama": ("model.embed_tokens", "lm_head"),
    "gpt2": ("transformer.wte", "lm_head"),
    "neox": ("gpt_neox.embed_in", "lm_head"),
    "bloom": ("transformer.word_embeddings", "lm_head"),
    "opt": ("model.decoder.embed_tokens", "lm_head"),
    "bert": ("bert.embeddings.word_embeddings", "classifier"),
    "roberta": ("roberta.embeddings.word_embeddings", "classifier.dense classifier.out_proj"),
    "albert": ("albert.embeddings.word_embeddings", "classifier"),
    "t5": ("encoder.embed_tokens decoder.embed_tokens", "lm_head"),
    "bart": ("model.encoder.embed_tokens model.decoder.embed_tokens", "lm_head"),
    "whisper": ("model.decoder.embed_tokens", "proj_out"),
    "vit": (None, "classifier"),
    "phi": ("model.embed_tokens", "lm_head"),
    "falcon": ("transformer.word_embeddings", "lm_head"),
    "modernbert": ("model.embeddings.tok_embeddings", "classifier"),
    "deberta-v2": ("deberta.embeddings.word_embeddings", "classifier"),
    "clip": ("text_model.embeddings.token_embedding", None),
}
