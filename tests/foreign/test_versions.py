"""A PEFT folder for an older version has the fields that it knows, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import errors as e
from adaptr.foreign.peft import types, versions
from adaptr.testing import shaken


def written(tmp_path: Path, version: str, method: str = "lora", **config: Any) -> dict[str, Any]:
    adapter = shaken(adaptr.create(tiny.model("llama"), method, **config))
    adaptr.save(adapter, tmp_path / "x.adaptr.safetensors", force=True)
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "a", to=f"peft@{version}", force=True)
    found: dict[str, Any] = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    return found


def test_the_oldest_gets_what_it_knows(tmp_path: Path) -> None:
    found = written(tmp_path, "0.5", r=3, alpha=6)
    assert found.keys() <= {
        "peft_type", "task_type", "inference_mode", "r", "target_modules", "lora_alpha", "lora_dropout",
        "fan_in_fan_out",
    }  # fmt: skip
    assert (found["r"], found["lora_alpha"]) == (3, 6)
    model = tiny.model("llama")
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        pass


def test_a_field_is_there_from_its_version_on(tmp_path: Path) -> None:
    assert written(tmp_path, "0.8", rslora=True)["use_rslora"] is True
    assert written(tmp_path, "0.9.1", "dora")["use_dora"] is True


def test_a_lokr_without_a_scale_is_for_every_version_that_has_it(tmp_path: Path) -> None:
    assert written(tmp_path, "0.6", "lokr", r=2, alpha=2.0)["peft_type"] == "LOKR"


#: Name to (version, method, configuration, a word of the error).
YOUNG: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "rslora": ("0.7", "lora", {"rslora": True}, "use_rslora.*0.8"),
    "dora": ("0.8", "dora", {}, "use_dora.*0.9"),
    "bias": ("0.13", "lora", {"bias": True}, "lora_bias.*0.14"),
    "ranks": ("0.5", "lora", {"overrides": {"*q_proj": {"r": 2}}}, "rank_pattern.*0.6"),
    "alora": ("0.17", "alora", {"invocation": [3]}, "alora_invocation_tokens.*0.18"),
    "loha": ("0.5", "loha", {}, "LOHA.*0.6"),
    "lokr": ("0.13", "lokr", {"r": 2, "alpha": 3.0}, "scale of a LoKr.*0.14"),
    "vera": ("0.20", "vera", {}, "VERA.*0.21"),
    "tokens": ("0.14", "trainable-tokens", {"tokens": [3]}, "TRAINABLE_TOKENS.*0.15"),
}


@pytest.mark.parametrize("name", YOUNG)
def test_what_a_version_has_not_is_refused(name: str, tmp_path: Path) -> None:
    version, method, config, word = YOUNG[name]
    with pytest.raises(e.Unsupported, match=word):
        written(tmp_path, version, method, **config)
    assert not (tmp_path / "a").exists()


def test_patterns_are_whole_paths_where_a_version_takes_the_first_that_fits(tmp_path: Path) -> None:
    config = {
        "targets": ["attn.q", "attn.v"],
        "overrides": {"*.0.*q_proj": {"r": 2, "alpha": 4}},
        "r": 3,
        "alpha": 9,
    }
    old, new = (written(tmp_path, version, **config) for version in ("0.6", "0.14"))
    assert old["rank_pattern"] == {"model.layers.0.self_attn.q_proj": 2}
    assert old["alpha_pattern"] == {"model.layers.0.self_attn.q_proj": 4}
    assert new["rank_pattern"] == {r"model\.layers\.0\.self_attn\.q_proj": 2}


@pytest.mark.parametrize("version", ["", "1.0", "0.3", "0.22", "0.x", "newest", "0.5.0rc1"])
def test_versions_that_are_none_or_read_no_safetensors(version: str, tmp_path: Path) -> None:
    with pytest.raises(e.UsageError):
        written(tmp_path, version)


def test_a_tool_whose_versions_are_not_told_apart(tmp_path: Path) -> None:
    adaptr.save(adaptr.create(tiny.model("llama"), "lora"), tmp_path / "x.adaptr.safetensors")
    with pytest.raises(e.UsageError, match="not told apart"):
        adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "a", to="mlx@0.30")


def test_every_field_of_todays_lora_has_its_version(peft: Any) -> None:
    """A field that is not in the table is one that 0.4 has: a new one must be written down."""
    oldest = {
        "task_type", "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "r",
        "target_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "modules_to_save",
        "init_lora_weights", "layers_to_transform", "layers_pattern",
    }  # fmt: skip
    known = {*versions.FIELDS[""], *versions.FIELDS["LORA"]} | oldest
    assert set(peft.LoraConfig().to_dict()) <= known
    assert {kind.peft for kind in types.builtin()} >= set(versions.TYPES)
