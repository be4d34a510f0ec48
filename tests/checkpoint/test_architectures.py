"""Each table against the class of transformers on the meta device."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from adaptr import plugins
from adaptr.adapter import kinds
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.architectures import KNOWN, drawn
from adaptr.checkpoint.built import imagined
from adaptr.checkpoint.names import Names
from adaptr.models import layers, tying
from adaptr.targets import resolve

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip
SAID = [{}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False}, {"attention_bias": True, "mlp_bias": True}]


def configured(name: str, **more: Any) -> dict[str, Any]:
    sizes = GPT2 if name == "gpt2" else SMALL
    return {"model_type": name, "architectures": [KNOWN[name].model], **sizes, **more}


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize("more", SAID, ids=str)
@pytest.mark.parametrize("name", KNOWN)
def test_drawn_is_what_transformers_builds(name: str, more: dict[str, Any]) -> None:
    config = configured(name, **more)
    assert parameters(drawn(config)) == parameters(imagined(config))


@pytest.mark.parametrize("more", SAID[:3], ids=str)
@pytest.mark.parametrize("name", KNOWN)
def test_what_is_tied_is_the_same(name: str, more: dict[str, Any]) -> None:
    config = configured(name, **more)
    assert drawn(config).ties() == tying._groups(tying._pairs(imagined(config)))


@pytest.mark.parametrize("name", KNOWN)
def test_layers_of_a_checkpoint_are_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the table, and by the model that transformers builds."""
    config = configured(name)
    tensors = {key: torch.zeros(shape) for key, shape in parameters(imagined(config)).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(tmp_path)
    found = layers.layers(checkpoint)
    assert Names(checkpoint).drawn is not None
    monkeypatch.setattr(Names, "drawn", None)
    assert found == layers.layers(checkpoint)


@pytest.mark.parametrize("name", KNOWN)
def test_places_are_the_same(name: str) -> None:
    config = configured(name)
    for spec, of in (
        ("all-linear", kinds.LAYERS),
        ("attention", {kinds.ATTENTION}),
        ("ffn_out", {kinds.PLACE}),
        ("type:norm", {kinds.NORM}),
        ("embed", {kinds.TABLE}),
    ):
        want = {t.path: t for t in resolve(imagined(config), spec, of)}
        assert {t.path: t for t in resolve(drawn(config), spec, of)} == want


@pytest.mark.parametrize("name", KNOWN)
def test_every_method_has_the_same_targets(name: str) -> None:
    config = configured(name)
    sketch, model = drawn(config), imagined(config)
    for method in map(plugins.method, plugins.builtin_files()):
        outlines = []
        for one in (sketch, model):
            try:
                outlines.append({(m.name, t.path): t for m, t in method.outline(one)})
            except Exception as error:
                outlines.append({("", type(error).__name__): str(error)})
        assert outlines[0] == outlines[1]


def test_defaults_of_transformers_that_follow_from_nothing_are_left_to_it() -> None:
    full = configured("mistral")
    assert drawn({key: value for key, value in full.items() if key != "num_key_value_heads"}) is None
    assert drawn({**full, "architectures": ["MistralForSequenceClassification"]}) is None
    assert drawn({**full, "model_type": "unheard"}) is None


def test_a_config_of_transformers_own_is_read() -> None:
    config = transformers.LlamaConfig(**SMALL).to_dict()
    assert dataclasses.is_dataclass(drawn(config))
