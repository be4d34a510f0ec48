"""Roles and places on twenty architectures, pinned for the first layer; patterns, overrides, and errors that help."""

from __future__ import annotations

import pytest

import adaptr
import tiny
from adaptr import errors, roles, targets
from adaptr.adapter import kinds

LAYERS = kinds.MATRIX | {"norm"}

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
    ("opt", "model.decoder.layers.0", BART),
    ("bert", "bert.encoder.layer.0", BERT),
    ("roberta", "roberta.encoder.layer.0", BERT),
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
    "clip": ("text_model.embeddings.token_embedding", None),
}


def found(name: str, role: str, layer: str = "") -> list[str] | None:
    kinds = {"attention"} if role == "attention" else {"module"} if role in roles.PLACES else LAYERS
    try:
        paths = [t.path for t in targets.resolve(tiny.shell(name), role, kinds)]
    except errors.TargetNotFound:
        return None
    return [p for p in paths if p.startswith(f"{layer}." if layer else "")]


@pytest.mark.parametrize(("name", "layer", "pinned"), PINNED, ids=[f"{n}-{layer}" for n, layer, _ in PINNED])
def test_the_first_layer(name: str, layer: str, pinned: dict[str, str]) -> None:
    for role in [*roles.ROLES, *roles.PLACES, "attention"]:
        if role in {"embed", "head"}:
            continue
        wanted = [
            f"{layer}.{p}" for p in pinned.get(role, "").replace(" < ", "<").split() for p in [p.partition("<")[0]]
        ]
        assert sorted(found(name, role, layer) or []) == sorted(wanted), role
    place, _, source = pinned["ffn_out"].partition(" < ")
    assert roles.ffn_input(f"{layer}.{place}") == (f"{layer}.{source}" if source else "")


@pytest.mark.parametrize("name", OUTSIDE)
def test_embeddings_and_heads_and_all_linear(name: str) -> None:
    embed, head = OUTSIDE[name]
    assert found(name, "embed") == (embed and embed.split())
    assert found(name, "head") == (head and head.split())
    linear = found(name, "all-linear") or []
    assert not set(linear) & set((head or "").split())
    layers = {n for p in PINNED if p[0] == name for r, ns in p[2].items() for n in ns.split() if r.startswith("attn.")}
    assert all(any(path.endswith(suffix) for path in linear) for suffix in layers if name not in {"mixtral"})


@pytest.mark.parametrize(("name", "sizes"), [("llama", {(2, 8)}), ("gpt2", {(4, 8)}), ("clip", {(4, 8), (2, 8)})])
def test_attentions_have_their_own_sizes(name: str, sizes: set[tuple[int, int]]) -> None:
    assert {t.shape for t in targets.resolve(tiny.shell(name), "attention", {"attention"})} == sizes


def test_places_of_two_towers_have_their_own_widths() -> None:
    shapes = {t.path.split(".")[0]: t.shape for t in targets.resolve(tiny.shell("clip"), "ffn_out", {"module"})}
    assert shapes == {"text_model": (32,), "vision_model": (16,)}


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("q_proj", 2),
        ("self_attn.q_proj", 2),
        ("model.layers.1.self_attn.q_proj", 1),
        ("*.layers.[1-9].*", 7),
        ("re:.*layers\\.0\\..*_proj", 7),
        ("type:linear", 15),
        ("type:Linear", 15),
        ("type:LlamaRMSNorm", 5),
        ("attn.qkv|attn.q", 2),
    ],
)
def test_patterns(word: str, count: int) -> None:
    model = tiny.shell("llama")
    matrices = kinds.MATRIX if count in {7} else LAYERS
    assert len(targets.resolve(model, word, matrices)) == count


def test_several_words_come_in_the_models_order_without_repeats() -> None:
    model = tiny.shell("llama")
    paths = [t.path for t in targets.resolve(model, ["v_proj", "q_proj", "attn.q"], LAYERS)]
    assert [p.rpartition(".")[2] for p in paths] == ["q_proj", "v_proj"] * 2


def test_types_are_found_under_an_adapter() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, adaptr.create(model, "lora")):
        assert len(targets.resolve(model, "type:Linear", LAYERS)) == 15


@pytest.mark.parametrize(
    ("word", "near"),
    [("q_prj", "`q_proj`"), ("attn.qq", "`attn.q`"), ("proj", "q_proj"), ("re:q_proj", "candidates")],
)
def test_a_word_that_matches_nothing_says_what_is_near(word: str, near: str) -> None:
    with pytest.raises(errors.TargetNotFound, match=f"`{word}` matches none of the 21 candidates") as caught:
        targets.resolve(tiny.shell("llama"), ["q_proj", word], LAYERS)
    assert near in str(caught.value)


def test_a_kind_the_model_has_not_is_named() -> None:
    with pytest.raises(errors.TargetNotFound, match="no conv2d at all"):
        targets.resolve(tiny.shell("llama"), "q_proj", {"conv2d"})


def test_overrides_by_pattern_and_the_later_wins() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(
        model, "lora", ["attn.q", "attn.v"], r=4, overrides={"*.layers.1.*": {"r": 2}, "v_proj": {"alpha": 1.0}}
    )
    rank = {path: t.config["r"] for path, t in adapter.targets.items()}
    assert list(rank.values()) == [4, 4, 2, 2]
    assert adapter.tensors["model.layers.1.self_attn.q_proj:A"].shape == (2, 32)
    assert {t.config["alpha"] for p, t in adapter.targets.items() if p.endswith("v_proj")} == {1.0}
    with pytest.raises(errors.BadConfig, match="no field `rank`"):
        adaptr.create(model, "lora", overrides={"q_proj": {"rank": 4}})


@pytest.mark.parametrize(
    ("method", "config", "words"),
    [
        ("lora", {"r": 0}, "`r` is 0"),
        ("lora", {"r": "8"}, "`r` is '8', wanted int"),
        ("lora", {"alpha": float("nan")}, "`alpha` is nan"),
        ("lora", {"dropout": 1.0}, "`dropout` is 1.0"),
        ("houlsby", {"activation": "sine"}, "`activation` is 'sine'"),
        ("prefix", {"tokens": -1}, "`tokens` is -1"),
    ],
)
def test_configurations_out_of_range_are_refused(method: str, config: dict[str, object], words: str) -> None:
    with pytest.raises(errors.BadConfig, match=words):
        adaptr.create(tiny.model("llama"), method, **config)


def test_what_matches_nothing_is_not_proposed_for_itself() -> None:
    """Mixtral's experts are a stack: a method of plain layers finds no `mlp.down`."""
    with pytest.raises(errors.TargetNotFound, match="matches none") as caught:
        adaptr.create(tiny.model("mixtral"), "ia3", ["mlp.down"])
    assert "did you mean `mlp.down`" not in str(caught.value)


def test_fused_projections_of_modules_called_self_attn_and_mlp() -> None:
    assert roles.has("model.layers.0.self_attn.qkv_proj", "attn.qkv")
    assert roles.has("model.layers.0.mlp.gate_up_proj", "mlp.gate")
    assert roles.has("model.layers.0.mlp.gate_up_proj", "mlp.up")
