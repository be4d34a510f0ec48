"""Heads whose bias a model has not, that are the model's table, that have its own names, and heads written back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign
from hub_folders import LORA, saved

GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 9, "vocab_size": 20}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 20}
IDS = torch.arange(6)[None] + 3
AT = "transformer.h.0.mlp.c_fc.loras.mine"
ONE = {"head_type": "classification", "layers": 1, "num_labels": 3, "use_pooler": False, "bias": True}


def model(name: str) -> Any:
    torch.manual_seed(0)
    if name.startswith("GPT2"):
        return getattr(t, name)(t.GPT2Config(**GPT2, **ENDS, num_labels=3, resid_pdrop=0.0)).eval()
    return getattr(t, name)(t.BertConfig(**BERT, num_labels=3)).eval()


def folder(place: Path, head: dict[str, Tensor], config: dict[str, Any] | None, **whole: Any) -> Path:
    pair = {f"{AT}.lora_A": torch.randn(2, 8), f"{AT}.lora_B": torch.randn(32, 2)}
    saved(place, pair, {**LORA, "intermediate_lora": True, "selfattn_lora": False}, model_type="gpt2")
    save_file(head, place / "model_head.safetensors")
    (place / "head_config.json").write_text(json.dumps({"config": config, "name": "mine", **whole}))
    return place


def logits(host: Any, adapter: adaptr.Adapter) -> Tensor:
    with torch.no_grad(), adaptr.attach(host, adapter):
        found: Tensor = host(input_ids=IDS).logits
    return found


def written(adapter: adaptr.Adapter, host: Any, out: Path) -> Path:
    form = foreign.get("adapterhub")
    form.write(form.based(adapter, host), out)
    return out


def test_a_bias_that_the_model_has_not_is_a_part_of_the_adapter_and_goes_back(tmp_path: Path) -> None:
    head = {"heads.mine.1.weight": torch.randn(3, 8), "heads.mine.1.bias": torch.randn(3)}
    host = model("GPT2ForSequenceClassification")
    found = adaptr.load(folder(tmp_path / "a", head, ONE), host)
    assert (found.method, list(found.parts), found.replaced_paths) == ("stack", ["lora", "head"], ["score.weight"])
    bare = adaptr.load(folder(tmp_path / "b", {"heads.mine.1.weight": head["heads.mine.1.weight"]}, ONE), host)
    assert bare.method == "lora"
    out = written(found, host, tmp_path / "out")
    assert json.loads((out / "head_config.json").read_text())["config"]["bias"] is True
    assert all(torch.equal(head[key], tensor) for key, tensor in load_file(out / "model_head.safetensors").items())
    torch.testing.assert_close(logits(host, adaptr.load(out, host)), logits(host, found))
    torch.testing.assert_close(logits(host, found) - logits(host, without_bias(found)), head["heads.mine.1.bias"][None])


def without_bias(adapter: adaptr.Adapter) -> adaptr.Adapter:
    tensors = {key: 0 * one if key == "score:head.t" else one for key, one in adapter.tensors.items()}
    return adapter.replace(tensors=tensors)


def test_what_it_was_scaled_by_since_goes_into_the_weight(tmp_path: Path) -> None:
    head = {"heads.mine.1.weight": torch.randn(3, 8), "heads.mine.1.bias": torch.randn(3)}
    host = model("GPT2ForSequenceClassification")
    found = adaptr.load(folder(tmp_path / "a", head, ONE), host)
    scaled = found.replace(
        tensors={key: 2 * one if key == "score:head.s" else one for key, one in found.tensors.items()}
    )
    out = written(scaled, host, tmp_path / "out")
    torch.testing.assert_close(logits(host, adaptr.load(out, host)), logits(host, scaled))


def test_a_head_that_is_the_table_of_the_base_brings_nothing(tmp_path: Path) -> None:
    host = model("GPT2LMHeadModel")
    config = {"head_type": "causal_lm", "layers": 1, "layer_norm": False, "bias": False}
    same = {"heads.mine.0.weight": host.lm_head.weight.detach().clone()}
    found = adaptr.load(folder(tmp_path / "a", same, config), host)
    assert not found.replaced_paths
    assert not load_file(written(found, host, tmp_path / "out") / "model_head.safetensors")
    other = adaptr.load(folder(tmp_path / "b", {"heads.mine.0.weight": torch.randn(20, 8)}, config), host)
    assert other.replaced_paths == ["lm_head.weight"]
    assert other.base.ties == (("lm_head.weight", "transformer.wte.weight"),)


def test_a_head_of_the_same_class_has_its_names(tmp_path: Path) -> None:
    head, host = {"score.weight": torch.randn(3, 8)}, model("GPT2ForSequenceClassification")
    place = folder(tmp_path / "a", head, None, model_class="GPT2ForSequenceClassification")
    assert adaptr.load(place, host).replaced_paths == ["score.weight"]
    place = folder(tmp_path / "b", {"score.weight": torch.randn(4, 8)}, None, model_class=type(host).__name__)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert not adaptr.load(place, host).replaced_paths
    assert any("`score.weight` of shape (4, 8), and the model (3, 8)" in str(one.message) for one in told)


def test_what_was_trained_of_a_head_is_written_with_its_labels(tmp_path: Path) -> None:
    host = model("BertForSequenceClassification")
    made = adaptr.create(host, "lora", ["query"], r=2, also=["head"])
    made = made.replace(training={"labels": ["bad", "fair", "good"]})
    assert sorted(made.replaced_paths) == ["classifier.bias", "classifier.weight"]
    said = json.loads((written(made, host, tmp_path / "out") / "head_config.json").read_text())
    assert said["model_class"] == "BertAdapterModel"
    assert (said["config"]["use_pooler"], said["config"]["layers"]) == (True, 1)
    assert said["config"]["label2id"] == {"bad": 0, "fair": 1, "good": 2}
    torch.testing.assert_close(logits(host, adaptr.load(tmp_path / "out", host)), logits(host, made))


def test_a_head_that_is_none_of_its_own_is_lost(tmp_path: Path) -> None:
    host = model("BertForNextSentencePrediction")
    made = adaptr.create(host, "lora", ["query"], r=2, also=["re:cls.*"])
    with pytest.raises(e.LossyConversion, match="the whole parameter `cls"):
        written(made, host, tmp_path / "out")


def test_how_many_choices_a_question_has_must_be_known(tmp_path: Path) -> None:
    host = model("BertForMultipleChoice")
    made = adaptr.create(host, "lora", ["query"], r=2, also=["head"])
    with pytest.raises(e.Unsupported, match="how many choices a question has"):
        written(made, host, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = {"head": {"class": "BertForMultipleChoice", "config": {"num_choices": 4}}}
        written(made.replace(foreign={"adapterhub": known}), host, tmp_path / "out")
