"""The reader of `adapter_config.json`: whatever is in it, an adapter or an error of ours; patterns as PEFT has them."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import adaptr
from adaptr import errors as e
from adaptr.foreign.peft import config, keys, types

FIELDS = [
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "modules_to_save",
    "use_rslora", "use_dora", "lora_bias", "bias", "fan_in_fan_out", "lora_dropout", "base_model_name_or_path",
    "revision", "auto_mapping", "init_lora_weights", "target_parameters", "feedforward_modules",
    "num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads", "num_transformer_submodules",
]  # fmt: skip
WORDS = st.sampled_from(["LORA", "IA3", "PROMPT_TUNING", "PREFIX_TUNING", "q_proj", "pissa", "", "(", "a.b", "é"])
PLAIN = st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=3) | st.dictionaries(WORDS, v, max_size=3), max_leaves=6)
PATHS = st.from_regex(r"[a-c](\.[a-c0-2]){0,4}", fullmatch=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    found = {"lora_A.weight": torch.ones(4, 6), "lora_B.weight": torch.ones(8, 4), "ia3_l": torch.ones(8, 1)}
    tensors = {f"base_model.model.m.{i}.{name}": t.clone() for i, (name, t) in enumerate(found.items())}
    save_file({**tensors, "prompt_embeddings": torch.ones(4, 16)}, path)
    return path.read_bytes()


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES), st.sampled_from(["LORA", "IA3", "PROMPT_TUNING", None]))
def test_any_configuration_gives_an_adapter_or_an_error_of_ours(
    weights: bytes, changed: dict[str, Any], kind: str | None
) -> None:
    good = {"peft_type": kind, "r": 4, "lora_alpha": 8, "num_virtual_tokens": 4, "token_dim": 16} if kind else {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adapter_model.safetensors").write_bytes(weights)
        (Path(folder) / "adapter_config.json").write_text(json.dumps({**good, **changed}))
        try:
            found = adaptr.load(folder)
        except e.AdaptrError:
            return
        assert found.targets


@settings(max_examples=300)
@given(st.dictionaries(PATHS, st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 9))
def test_patterns_give_back_the_values_they_were_made_from(values: dict[str, int], common: int) -> None:
    table = config.patterns(values, common)
    assert {path: config.matching(table, path, common) for path in values} == values


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("q_proj", "layers.0.q_proj", True),
        ("proj", "layers.0.q_proj", False),
        ("q_proj", "q_proj.lora", False),
        (r"layers\.[01]\.q_proj", "model.layers.1.q_proj", True),
        (r"layers\.[01]\.q_proj", "model.layers.2.q_proj", False),
        ("^layers.0.q_proj", "model.layers.0.q_proj", False),
        ("^layers.0.q_proj", "layers.0.q_proj", True),
        ("a|b", "x.b", True),
    ],
)
def test_pattern_semantics(peft: Any, pattern: str, path: str, matches: bool) -> None:
    from peft.utils.other import get_pattern_key

    assert (config.matching({pattern: 5}, path, 1) == 5) is matches
    assert (get_pattern_key([pattern], path) == pattern) is (matches or pattern == path)


@settings(max_examples=300)
@given(st.lists(st.text(alphabet="abl_AB.0:é ", min_size=1, max_size=30), max_size=5))
def test_any_keys_are_read_or_refused(names: list[str]) -> None:
    try:
        found = keys.read(names, types.slots())
    except e.AdaptrError:
        return
    assert {key.source for key in found} <= set(names)


@pytest.mark.parametrize("slot", ["lora_A", "lora_B.bias", "lora_embedding_A", "lora_magnitude_vector", "ia3_l"])
def test_keys_are_read_as_written(slot: str) -> None:
    (found,) = keys.read([keys.written("model.layers.0.q_proj", slot)], types.slots())
    assert (found.path, found.slot) == ("model.layers.0.q_proj", slot)


def test_a_pattern_that_never_ends_is_refused(tmp_path: Path) -> None:
    bomb = r"model\.(a|aa)+b\.q_proj"
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "rank_pattern": {bomb: 4}}
    path = f"base_model.model.model.{'a' * 60}.q_proj"
    tensors = {f"{path}.lora_A.weight": torch.ones(2, 4), f"{path}.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    started = time.perf_counter()
    with pytest.raises(adaptr.errors.ConfigConflict, match="takes longer"):
        adaptr.load(tmp_path)
    assert time.perf_counter() - started < 20
