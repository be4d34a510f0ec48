"""What AdapterHub's configurations say, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
from adaptr import errors as e
from hub_folders import BOTTLENECK, LORA, Q, bottleneck, pair, saved, there


def test_a_lora_needs_no_base(tmp_path: Path) -> None:
    tensors = pair()
    found = adaptr.load(saved(tmp_path, tensors))
    (path,) = found.targets
    assert path == "model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(found[path].dense(), 2 * tensors[f"{Q}.lora_B"] @ tensors[f"{Q}.lora_A"])


@pytest.mark.parametrize(
    ("version", "scale"), [("3.0.1", 2), ("adapters.0.9", 1), ("adapters.1.0.1", 1), ("adapters.1.1.0", 2)]
)
def test_old_versions_did_not_scale(version: str, scale: int, tmp_path: Path) -> None:
    tensors = pair()
    found = adaptr.load(saved(tmp_path, tensors, version=version))
    (path,) = found.targets
    torch.testing.assert_close(found[path].dense(), scale * tensors[f"{Q}.lora_B"] @ tensors[f"{Q}.lora_A"])


def test_a_scale_that_nobody_knows_is_not_guessed(tmp_path: Path) -> None:
    union = {"architecture": "union", "configs": [LORA]}
    assert adaptr.load(saved(tmp_path, pair(), union, version="adapters.1.1.0")).config["alpha"] == 4
    with pytest.raises(e.Unsupported, match=r"of an `adapters` before 1.1"):
        adaptr.load(saved(tmp_path, pair(), union, version="adapters.1.0.1"))


def test_names_of_2020_are_read(tmp_path: Path) -> None:
    old, new = "bert.encoder.layer.0.output.layer_text_task_adapters.mine", "bert.encoder.layer.0.output.adapters.mine"
    config = {**BOTTLENECK, "original_ln_before": False}
    first, second = (
        adaptr.load(saved(tmp_path / name[-14:-5], bottleneck(name), config, model_type="bert")) for name in (old, new)
    )
    assert first.targets == second.targets


def test_what_its_configuration_says_is_kept(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path / "a", pair(), model_name="meta/base"))
    assert found.base.id == "meta/base"
    adaptr.save(found, tmp_path / "b.safetensors")
    assert adaptr.load(tmp_path / "b.safetensors").foreign["adapterhub"]["config"]["name"] == "mine"


def test_a_direction_is_another_for_each_base(shared: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="DoRA is another one for each base"):
        adaptr.load(there(shared, "llama", "dora") / "st")


def test_how_many_heads_a_prefix_is_for_only_the_base_says(shared: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="how many heads"):
        adaptr.load(there(shared, "llama", "prefix") / "bin")


@pytest.mark.parametrize(
    ("config", "tensors", "error", "match"),
    [
        (LORA, {**pair(), "model.norm.weight": torch.ones(4)}, e.TensorUnknown, "`model.norm.weight` is no tensor"),
        (LORA, {**pair(), **pair(Q.replace("mine", "other"))}, e.ConfigConflict, "several adapters, mine, other"),
        (LORA, {**pair(), "x.adapters.mine.a": torch.ones(4)}, e.TensorUnknown, "belongs to no method"),
        (LORA, pair(r=3), e.ConfigConflict, "rank 2, as the configuration says"),
        ({**LORA, "rank_stabilised": True}, pair(), e.Unsupported, "`rank_stabilised` of the configuration is `True`"),
        ({**LORA, "architecture": "side"}, pair(), e.Unsupported, "no method for AdapterHub's `side`"),
        ({"architecture": "union", "configs": [LORA, LORA]}, pair(), e.Unsupported, "two configurations of"),
        ({"architecture": "union", "configs": LORA}, pair(), e.ConfigConflict, "`configs`"),
        ("pfeiffer", pair(), e.ConfigConflict, "`config`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    config: Any, tensors: dict[str, Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, tensors, config))


def test_what_lies_beside_is_no_adapter(shared: Path) -> None:
    folder = there(shared, "bert", "double_seq_bn") / "bin"
    with pytest.warns(e.WeightsIgnored, match=r"`pytorch_model_head.bin`; they are not used"):
        adaptr.load(folder)
    with pytest.raises(e.UnknownFormat, match="an AdapterHub prediction head"):
        adaptr.load(folder / "pytorch_model_head.bin")


def test_which_intervention_it_is_is_not_guessed(shared: Path) -> None:
    for case in ("noreft", "direft"):
        with pytest.raises(e.ConfigMissing, match=r"NoReFT or DiReFT.*`--reft noreft`"):
            adaptr.load(there(shared, "llama", case) / "st")
    with pytest.raises(e.UsageError, match="says which intervention it is"):
        adaptr.load(adaptr.source(there(shared, "llama", "loreft") / "st", reft="direft"))
    with pytest.raises(e.UsageError, match="it has no intervention"):
        adaptr.load(adaptr.source(there(shared, "llama", "lora") / "st", reft="direft"))
    with pytest.raises(e.UsageError, match="one of noreft, direft"):
        adaptr.source(there(shared, "llama", "direft") / "st", reft="loreft")
