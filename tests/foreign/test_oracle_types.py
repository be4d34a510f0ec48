"""PEFT 0.21 as the oracle of the types that nobody else writes: rectangular layers with grouped heads and no biases,
Conv1D, biases. Everything that learns is away from where it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import adaptr
from peft_models import Convolutions, bert, gpt2, llama, made, read_and_written_back, scrambled, written_and_read_back

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
QV, WIDE = ["q_proj", "v_proj"], ["q_proj", "k_proj", "down_proj"]
CONV1D = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
BIASED = {"target_modules": ["query", "output.dense"]}

#: Name to (model, PEFT's configuration class, its arguments).
FROM_PEFT: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-fourierft": (llama, "FourierFTConfig", {"target_modules": WIDE, "n_frequency": 30}),
    "gpt2-fourierft": (gpt2, "FourierFTConfig", {**CONV1D, "n_frequency": 30, "random_loc_seed": 5}),
    "bert-waveft": (bert, "WaveFTConfig", {**BIASED, "n_frequency": 40}),
    "llama-waveft-db2": (llama, "WaveFTConfig", {"target_modules": WIDE, "n_frequency": 40, "wavelet_family": "db2"}),
    "llama-waveft-db3": (llama, "WaveFTConfig", {"target_modules": QV, "n_frequency": 40, "wavelet_family": "db3"}),
    "llama-waveft-db4": (
        llama,
        "WaveFTConfig",
        {"target_modules": WIDE, "n_frequency": 40, "wavelet_family": "db4", "proportional_parameters": True},
    ),
    "gpt2-waveft-plain": (gpt2, "WaveFTConfig", {**CONV1D, "n_frequency": 40, "use_idwt": False}),
    "llama-c3a": (
        llama,
        "C3AConfig",
        {"target_modules": WIDE, "block_size": 8, "block_size_pattern": {"down_proj": 4}},
    ),
    "bert-c3a": (bert, "C3AConfig", {**BIASED, "block_size": 16}),
    "llama-vblora": (
        llama,
        "VBLoRAConfig",
        {"target_modules": WIDE, "r": 3, "num_vectors": 8, "vector_length": 4, "topk": 3},
    ),
    "gpt2-vblora": (gpt2, "VBLoRAConfig", {**CONV1D, "r": 3, "num_vectors": 8, "vector_length": 4}),
    "llama-randlora": (llama, "RandLoraConfig", {"target_modules": WIDE, "r": 5}),
    "gpt2-randlora": (gpt2, "RandLoraConfig", {**CONV1D, "r": 5, "sparse": True}),
    "llama-gralora": (llama, "GraloraConfig", {"target_modules": WIDE, "r": 4, "hybrid_r": 2, "alpha": 7}),
    "gpt2-gralora": (gpt2, "GraloraConfig", {**CONV1D, "r": 8, "gralora_k": 4}),
    "llama-delora": (
        llama,
        "DeloraConfig",
        {"target_modules": WIDE, "r": 3, "delora_lambda": 2, "rank_pattern": {"down_proj": 2}},
    ),
    "bert-delora": (bert, "DeloraConfig", {**BIASED, "r": 2}),
    "bert-road-1": (bert, "RoadConfig", {**BIASED, "group_size": 8}),
    "llama-road-2": (llama, "RoadConfig", {"target_modules": WIDE, "variant": "road_2", "group_size": 4}),
    "bert-road-4": (bert, "RoadConfig", {**BIASED, "variant": "road_4", "group_size": 16}),
    "llama-miss": (llama, "MissConfig", {"target_modules": WIDE, "r": 5}),
    "bert-miss-mini": (bert, "MissConfig", {**BIASED, "r": 4, "mini_r": 8, "init_weights": "mini"}),
    "bert-miss-bat": (bert, "MissConfig", {**BIASED, "r": 8, "init_weights": "bat"}),
    "llama-hira": (llama, "HiraConfig", {"target_modules": WIDE, "r": 3, "rank_pattern": {"down_proj": 2}}),
    "llama-hira-embeddings": (llama, "HiraConfig", {"target_modules": ["embed_tokens", "o_proj"], "r": 3}),
    "gpt2-hira": (gpt2, "HiraConfig", {**CONV1D, "r": 3}),
    "convolutions-hira": (Convolutions, "HiraConfig", {"target_modules": ["one", "two", "three", "last"], "r": 3}),
    "llama-pvera": (llama, "PveraConfig", {"target_modules": WIDE, "r": 5}),
    "gpt2-pvera": (gpt2, "PveraConfig", {**CONV1D, "r": 5}),
}
#: Name to (model, method, arguments of `create`).
FROM_ADAPTR: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-fourierft": (llama, "fourierft", {"targets": "all-linear", "n": 25, "overrides": {"*.0.*": {"n": 31}}}),
    "llama-waveft": (llama, "waveft", {"targets": "all-linear", "n": 25, "overrides": {"*.0.*": {"n": 31}}}),
    "bert-c3a": (bert, "c3a", {"targets": "all-linear", "b": 8, "overrides": {"*.0.*": {"b": 4}}}),
    "gpt2-vblora": (gpt2, "vblora", {"targets": "attn.qkv", "r": 2, "h": 7, "v": 8}),
    "llama-randlora": (llama, "randlora", {"targets": ["attn.q", "attn.k", "mlp.down"], "r": 5}),
    "bert-gralora": (bert, "gralora", {"targets": "all-linear", "r": 4, "hybrid": 1}),
    "llama-delora": (llama, "delora", {"targets": "all-linear", "overrides": {"*.0.*": {"r": 3, "start": 2.0}}}),
    "llama-road": (llama, "road", {"targets": ["attn.q", "attn.v"], "variant": 2, "g": 8}),
    "bert-miss": (bert, "miss", {"targets": "all-linear", "r": 7}),
    "bert-miss-mini": (bert, "miss", {"targets": "all-linear", "r": 7, "m": 4}),
    "llama-bone": (llama, "bone", {"targets": ["attn.q", "attn.v"], "r": 8}),
    "llama-hira": (llama, "hira", {"targets": "all-linear", "r": 4}),
    "gpt2-pvera": (gpt2, "pvera", {"targets": "all-linear", "r": 4}),
}


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    read_and_written_back(peft, *FROM_PEFT[name], tmp_path)


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote_is_written_again_to_the_same_numbers(peft: Any, name: str, tmp_path: Path) -> None:
    build, cls, arguments = FROM_PEFT[name]
    theirs = peft.get_peft_model(made(build), getattr(peft, cls)(**arguments))
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    adaptr.convert(tmp_path / "peft", tmp_path / "a.adaptr.safetensors", base=made(build))
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "back", to="peft")
    was, now = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("peft", "back"))
    assert was.keys() == now.keys()
    assert all(was[key].dtype == now[key].dtype and torch.equal(was[key], now[key]) for key in was)


@pytest.mark.parametrize("name", FROM_ADAPTR)
def test_what_adaptr_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    written_and_read_back(peft, *FROM_ADAPTR[name], tmp_path)
