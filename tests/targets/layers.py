"""Names in a layer of architectures that several models share."""

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
