"""Which number of a path is the layer's, and what a gradient over the layers comes to there."""

from __future__ import annotations

import pytest

from adaptr.adapter.weighting import Layers
from adaptr.errors import UsageError

THIRDS = pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    "form",
    [
        "layers.{}.attn.q",
        "model.layers.{}.self_attn.q_proj",
        "h.{}.attn.c_attn",
        "encoder.layer.{}.attention.self.query",
        "0.auto_model.encoder.layer.{}.attention.self.query",
        "0.layer.{}.q",
        "0.{}.q",
        "1.model.h.{}.attn.c_attn",
        "encoder.block.{}.layer.0.SelfAttention.q",
        "transformer.resblocks.{}.attn.out_proj",
        "single_transformer_blocks.{}.attn.to_q",
        "model.layers.{}.mlp.experts.7.up_proj",
        "model.layers.{}.block_sparse_moe.experts.3.w1",
        "experts.2.layers.{}.w1",
        "bert.encoder.albert_layer_groups.{}.albert_layers.0.ffn",
        "net.{}.q",
        "{}",
    ],
)
def test_the_number_of_the_layer(form: str) -> None:
    paths = [form.format(i) for i in range(4)]
    layers = Layers(paths)
    assert [layers.weight([0.0, 1.0], path, "a") for path in paths] == THIRDS


def test_experts_of_one_layer_have_its_strength() -> None:
    paths = [f"layers.{i}.mlp.experts.{e}.up_proj" for i in (0, 2) for e in range(3)]
    layers = Layers(paths)
    assert [layers.weight([0.2, 1.0], path, "a") for path in paths] == [0.2] * 3 + [1.0] * 3


def test_stacks_and_towers_count_on_their_own() -> None:
    text = [f"language_model.layers.{i}.self_attn.q_proj" for i in range(3)]
    sight = [f"visual.blocks.{i}.attn.qkv" for i in range(5)]
    decoder = [f"decoder.block.{i}.layer.{j}.q" for i in range(2) for j in range(3)]
    layers = Layers([*text, *sight, *decoder])
    assert [layers.at(path) for path in text] == [0, 0.5, 1]
    assert [layers.at(path) for path in sight] == [0, 0.25, 0.5, 0.75, 1]
    assert [layers.at(path) for path in decoder] == [0, 0, 0, 1, 1, 1]


def test_a_gradient_is_refused_where_there_is_no_layer() -> None:
    layers = Layers(["lm_head", "experts.3.w1", "layers.0.q"])
    for path in ("lm_head", "experts.3.w1"):
        with pytest.raises(UsageError, match="is in none"):
            layers.weight([0.0, 1.0], path, "a")
