"""Where AdapterHub has what in models of other types. That it does the same is held by `oracles/adapterhub-read`."""

from __future__ import annotations

from pathlib import Path

import pytest

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr_formats.adapterhub import places
from hub_folders import BOTTLENECK, LORA, bottleneck, pair, saved

PLAIN = {**BOTTLENECK, "original_ln_before": False}
ALBERT = "encoder.albert_layer_groups.0.albert_layers.0"


def test_behind_alberts_attention_it_has_the_two_of_a_sum_the_other_way_round(tmp_path: Path) -> None:
    tensors = bottleneck(f"{ALBERT}.attention.attention_adapters.adapters.mine")
    found = adaptr.load(saved(tmp_path / "a", tensors, PLAIN, model_type="albert"))
    (target,) = found.targets.values()
    assert (found.method, target.path) == ("parallel", f"{ALBERT}.attention.output_dropout")
    assert target.config["reads"] == f"{ALBERT}.attention"
    found = adaptr.load(saved(tmp_path / "b", tensors, {**PLAIN, "is_parallel": True}, model_type="albert"))
    assert found.method == "houlsby"
    found = adaptr.load(saved(tmp_path / "c", tensors, BOTTLENECK, model_type="albert"))
    assert found.method == "pfeiffer"


@pytest.mark.parametrize(
    ("kind", "tensors", "at", "reads"),
    [
        ("bart", "decoder.layers.1.cross_attention_adapters", "encoder_attn.out_proj", "encoder_attn"),
        ("mbart", "decoder.layers.1.output_adapters", "fc2", "final_layer_norm"),
        ("t5", "decoder.block.1.layer.2", "layer.2.dropout", "layer.2"),
        ("mt5", "encoder.block.0.layer.1", "layer.1.dropout", "layer.1"),
        ("vit", "encoder.layer.0.output.output_adapters", "output.dense", "layernorm_after"),
    ],
)
def test_where_a_bottleneck_is(kind: str, tensors: str, at: str, reads: str, tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path, bottleneck(f"{tensors}.adapters.mine"), BOTTLENECK, model_type=kind))
    (target,) = found.targets.values()
    layer = places.divided(tensors)[0]
    assert (target.path, target.config["reads"]) == (f"{layer}.{at}", f"{layer}.{reads}")


@pytest.mark.parametrize(
    ("kind", "said", "at", "match"),
    [
        ("beit", PLAIN, "encoder.layer.0.attention_adapters", "multiplied by a parameter of the layer"),
        ("encoder-decoder", PLAIN, "encoder.encoder.layer.0.output", "two models of types"),
        ("gptj", BOTTLENECK, "h.0.output_adapters", "has the attention's output in it"),
        ("gptj", {**PLAIN, "is_parallel": True}, "h.0.output_adapters", "has the attention's output in it"),
        ("xmod", PLAIN, "encoder.layer.0.output", "the language adapters of X-MOD"),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(
    kind: str, said: dict[str, object], at: str, match: str, tmp_path: Path
) -> None:
    with pytest.raises(e.Unsupported, match=match):
        adaptr.load(saved(tmp_path, bottleneck(f"{at}.adapters.mine"), said, model_type=kind))


def test_of_gptj_what_reads_the_output_alone_is_read(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path, bottleneck("h.0.output_adapters.adapters.mine"), PLAIN, model_type="gptj"))
    assert list(found.targets) == ["h.0.mlp.dropout"]


def test_that_its_deberta_is_another_each_time_is_said(tmp_path: Path) -> None:
    tensors = pair("encoder.layer.0.output.dense.loras.mine")
    with pytest.warns(e.TrainedOtherwise, match="a bias in DeBERTa's `in_proj`, which it draws at random"):
        assert adaptr.load(saved(tmp_path, tensors, LORA, model_type="deberta")).method == "lora"


def test_of_what_its_library_does_not_know_nothing_is_written(tmp_path: Path) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXModel

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = GPTNeoXModel(GPTNeoXConfig(vocab_size=9, bos_token_id=0, eos_token_id=0, **sizes))
    form = foreign.get("adapterhub")
    made = form.based(adaptr.create(model, "houlsby", m=2), model)
    with pytest.raises(e.Unsupported, match="AdapterHub's library has no models of type `gpt_neox`"):
        form.write(made, tmp_path / "out")
