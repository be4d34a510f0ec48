"""MLX-LM's adapters as they are written: one rank, one scale, and nothing that it has no place for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign
from foreign.mlx_folders import Q, factors, folder, parameters


def made(method: str = "lora", **config: Any) -> adaptr.Adapter:
    from adaptr.testing.samples import shaken

    return shaken(adaptr.create(tiny.model("llama"), method, ["attn.q", "attn.v"], r=4, **config))


def changed(adapter: adaptr.Adapter, path: str, **config: Any) -> adaptr.Adapter:
    target = adapter.targets[path]
    other = dataclasses.replace(target, config={**target.config, **config})
    return adapter.replace(targets={**adapter.targets, path: other})


def written(adapter: adaptr.Adapter, place: Path, lossy: bool = False) -> dict[str, Any]:
    foreign.get("mlx").write(adapter, place, lossy)
    said: dict[str, Any] = json.loads((place / "adapter_config.json").read_text())
    return said


def test_modules_of_all_layers_are_called_by_their_names_inside_one(tmp_path: Path) -> None:
    said = written(made(alpha=6.0), tmp_path / "a")
    assert (said["num_layers"], said["fine_tune_type"]) == (-1, "lora")
    keys = ["self_attn.q_proj", "self_attn.v_proj"]
    assert said["lora_parameters"] == {"rank": 4, "scale": 1.5, "dropout": 0.0, "keys": keys}


def test_modules_of_some_layers_are_called_by_their_paths(tmp_path: Path) -> None:
    adapter = made()
    targets = {path: target for path, target in adapter.targets.items() if ".1." in path}
    tensors = {key: value for key, value in adapter.tensors.items() if ".1." in key}
    said = written(adapter.replace(targets=targets, tensors=tensors), tmp_path / "a")
    assert said["lora_parameters"]["keys"] == sorted(targets)


def test_another_rank_is_filled_up_and_another_scale_goes_into_a_factor(tmp_path: Path) -> None:
    adapter = made(alpha=4.0)
    path = Q.format(1)
    small = {f"{path}:A": adapter.tensors[f"{path}:A"][:3], f"{path}:B": adapter.tensors[f"{path}:B"][:, :3]}
    adapter = changed(adapter.replace(tensors={**adapter.tensors, **small}), path, r=3, alpha=7.0, rslora=True)
    said = written(adapter, tmp_path / "a")
    assert said["lora_parameters"]["rank"] == 4
    found = adaptr.load(tmp_path / "a")
    assert {target.config["r"] for target in found.targets.values()} == {4}
    for each in adapter.targets:
        torch.testing.assert_close(found[each].dense(), adapter[each].dense(), atol=1e-6, rtol=1e-6)


def test_a_factor_in_half_precision_that_gets_a_scale_is_widened(tmp_path: Path) -> None:
    adapter = made(alpha=4.0)
    halves = {key: value.bfloat16() for key, value in adapter.tensors.items()}
    path = Q.format(1)
    written(changed(adapter.replace(tensors=halves), path, alpha=5.0), tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "adapters.safetensors")
    assert tensors[f"{path}.lora_b"].dtype == torch.float32
    assert {value.dtype for key, value in tensors.items() if key != f"{path}.lora_b"} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("adapter", "match"),
    [
        (made("lora", bias=True), "no bias of a LoRA"),
        (made().replace(method="loha"), "no equivalent of `loha`"),
        (made().replace(method="full"), "whole parameters.*adaptr merge"),
    ],
)
def test_what_mlx_has_nothing_for_is_refused(adapter: adaptr.Adapter, match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        foreign.get("mlx").write(adapter, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("adapter", "match"),
    [
        (changed(made(), Q.format(0), dropout=0.5), "dropout rates that differ"),
        (made().replace(tensors={**made().tensors, "lm_head.weight:=": torch.ones(2, 2)}), "`lm_head.weight`"),
        (made().replace(tensors={key: value.double() for key, value in made().tensors.items()}), "fp64"),
    ],
)
def test_what_is_lost_is_said(adapter: adaptr.Adapter, match: str, tmp_path: Path) -> None:
    with pytest.raises(e.LossyConversion, match=match):
        foreign.get("mlx").write(adapter, tmp_path / "a")
    written(adapter, tmp_path / "a", lossy=True)
    assert adaptr.load(tmp_path / "a").targets.keys() == adapter.targets.keys()


def test_an_alpha_beside_the_scale_goes_once_it_is_another(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", factors(Q.format(0)), lora_parameters=parameters(alpha=16))
    adapter = adaptr.load(place)
    assert written(adapter, tmp_path / "same")["lora_parameters"]["alpha"] == 16
    assert "alpha" not in written(changed(adapter, Q.format(0), alpha=1.0), tmp_path / "other")["lora_parameters"]
