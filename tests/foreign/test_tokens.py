"""Rows of embeddings, alone and beside a LoRA: read, computed and written as PEFT has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adaptr
from adaptr import errors as e
from peft_models import SMALL, gpt2, llama, made, outputs, scrambled

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


def tied() -> nn.Module:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config)


Build = Callable[[], nn.Module]
LORA = {"target_modules": ["q_proj", "up_proj"], "r": 3, "lora_alpha": 7}
EACH = {"embed_tokens": [9, 3], "lm_head": [5, 7, 2]}
#: Name to (model, PEFT's class, its arguments, adaptr's method).
CASES: dict[str, tuple[Build, str, dict[str, Any], str]] = {
    "alone": (llama, "TrainableTokensConfig", {"token_indices": [9, 3]}, "trainable-tokens"),
    "tied": (tied, "TrainableTokensConfig", {"token_indices": [9, 3]}, "trainable-tokens"),
    "gpt2": (gpt2, "TrainableTokensConfig", {"token_indices": [7], "target_modules": ["wte"]}, "trainable-tokens"),
    "lora": (llama, "LoraConfig", {**LORA, "trainable_token_indices": [9, 3]}, "stack"),
    "lora-tied": (tied, "LoraConfig", {**LORA, "trainable_token_indices": [9, 3]}, "stack"),
    "lora-each": (llama, "LoraConfig", {**LORA, "trainable_token_indices": EACH}, "stack"),
    "dora": (tied, "LoraConfig", {**LORA, "use_dora": True, "trainable_token_indices": [9, 3]}, "stack"),
    "lora-head": (
        llama,
        "LoraConfig",
        {**LORA, "trainable_token_indices": [9, 3], "modules_to_save": ["lm_head"]},
        "stack",
    ),
}


def trained(peft: Any, name: str, path: Path) -> torch.Tensor:
    """PEFT's adapter with random values in `path/a`, its base in `path/base`; the outputs."""
    build, kind, arguments, _ = CASES[name]
    made(build).save_pretrained(path / "base")
    theirs = peft.get_peft_model(made(build), getattr(peft, kind)(**arguments)).eval()
    scrambled(theirs)
    theirs.save_pretrained(path / "a")
    return outputs(theirs)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_computes_and_merges_what_peft_does(peft: Any, name: str, with_base: bool, tmp_path: Path) -> None:
    want, model = trained(peft, name, tmp_path), made(CASES[name][0])
    adapter = adaptr.load(tmp_path / "a", base=tmp_path / "base" if with_base else None)
    assert adapter.method == CASES[name][3]
    assert gap(outputs(model), want) > 1e-2
    with adaptr.attach(model, adapter):
        assert gap(outputs(model), want) <= 1e-5
    adaptr.merge(tmp_path / "base", adapter, tmp_path / "merged")
    assert gap(outputs(type(model).from_pretrained(tmp_path / "merged").eval()), want) <= 1e-5
    with adaptr.attach(model, adapter, merged=True):
        assert gap(outputs(model), want) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_goes_there_and_back(peft: Any, name: str, tmp_path: Path) -> None:
    want = trained(peft, name, tmp_path)
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")
    before, after = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("a", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    configs = [json.loads((tmp_path / folder / "adapter_config.json").read_text()) for folder in ("a", "back")]
    assert configs[0] == configs[1]
    theirs = peft.PeftModel.from_pretrained(made(CASES[name][0]), tmp_path / "back").eval()
    assert gap(outputs(theirs), want) <= 1e-5


@pytest.mark.parametrize("build", [llama, tied, gpt2])
def test_what_is_made_here_is_loaded_by_peft(peft: Any, build: Build, tmp_path: Path) -> None:
    model = made(build)
    adapter = adaptr.create(model, "trainable-tokens", tokens=[9, 3])
    adapter = adapter.replace(tensors={key: t + 0.3 for key, t in adapter.tensors.items()})
    with adaptr.attach(model, adapter):
        want = outputs(model)
    adaptr.save(adapter, tmp_path / "x.adaptr.safetensors")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")
    assert gap(outputs(peft.PeftModel.from_pretrained(made(build), tmp_path / "back").eval()), want) <= 1e-5


def test_a_stack_that_is_no_lora_with_tokens_has_no_place_in_peft(tmp_path: Path) -> None:
    model = made(llama)
    parts = {name: adaptr.create(model, "lora", ["attn.q"], seed=n, r=2) for n, name in enumerate(("one", "two"))}
    stack = adaptr.create(model, "stack", children=parts)
    adaptr.save(stack, tmp_path / "x.adaptr.safetensors")
    with pytest.raises(e.Unsupported, match="no stack"):
        adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")


#: What is changed in a file of tokens beside a LoRA, and the error.
WRONG: dict[str, tuple[dict[str, Any], type[e.AdaptrError], str]] = {
    "no ids": ({"trainable_token_indices": None}, e.ConfigConflict, "is there"),
    "more ids": ({"trainable_token_indices": [3, 9, 11]}, e.ConfigConflict, r"\(2, 32\)"),
    "twice": ({"trainable_token_indices": [3, 3]}, e.ConfigConflict, "different"),
    "texts": ({"trainable_token_indices": ["a", "b"]}, e.ConfigConflict, "numbers"),
    "negative": ({"trainable_token_indices": [-1, 3]}, e.ConfigConflict, "numbers"),
    "another": ({"trainable_token_indices": {"wte": [3, 9]}}, e.ConfigConflict, "numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_ids_that_are_not_those_of_the_file(peft: Any, name: str, tmp_path: Path) -> None:
    trained(peft, "lora", tmp_path)
    changes, error, word = WRONG[name]
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(error, match=word):
        adaptr.load(tmp_path / "a")


def test_ids_without_rows(peft: Any, tmp_path: Path) -> None:
    trained(peft, "lora", tmp_path)
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file({key: t for key, t in load_file(path).items() if "token_adapter" not in key}, path)
    with pytest.raises(e.ConfigConflict, match="no rows"):
        adaptr.load(tmp_path / "a")


def test_an_id_that_the_base_has_not(peft: Any, tmp_path: Path) -> None:
    trained(peft, "alone", tmp_path)
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "token_indices": [3, 40]}))
    with pytest.raises(e.BadConfig, match="below 40"):
        adaptr.load(tmp_path / "a", base=tmp_path / "base")
