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
from adaptr import errors as e
from adaptr import plugins
from adaptr.testing import shaken
from peft_models import (
    IDS,
    Convolutions,
    bert,
    gap,
    gpt2,
    llama,
    made,
    outputs,
    read_and_written_back,
    scrambled,
    written_and_read_back,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
QV, WIDE = ["q_proj", "v_proj"], ["q_proj", "k_proj", "down_proj"]
CONV1D = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
CAUSAL = {"task_type": "CAUSAL_LM"}
BIASED = {"target_modules": ["query", "output.dense"]}

#: Name to (model, PEFT's configuration class, its arguments).
FROM_PEFT: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-p-tuning-lstm": (
        llama,
        "PromptEncoderConfig",
        {"num_virtual_tokens": 3, "encoder_hidden_size": 8, "encoder_reparameterization_type": "LSTM", **CAUSAL},
    ),
    "llama-cpt": (
        llama,
        "CPTConfig",
        {"cpt_token_ids": [5, 9, 4, 7], "cpt_tokens_type_mask": [1, 2, 3, 4], "opt_projection_epsilon": 5.0, **CAUSAL},
    ),
    "llama-cartridge": (
        llama,
        "CartridgeConfig",
        {"num_virtual_tokens": 4, "num_frozen_tokens": 2, **CAUSAL},
    ),
    "llama-prefix-mlp": (
        llama,
        "PrefixTuningConfig",
        {"num_virtual_tokens": 3, "encoder_hidden_size": 8, "prefix_projection": True, **CAUSAL},
    ),
    "llama-adaption-prompt": (
        llama,
        "AdaptionPromptConfig",
        {"adapter_len": 4, "adapter_layers": 1, **CAUSAL},
    ),
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
    "bert-beft": (bert, "BeftConfig", BIASED),
    "llama-beft": (llama, "BeftConfig", {"target_modules": WIDE}),
    "llama-deft": (llama, "DeftConfig", {"target_modules": WIDE, "r": 3, "alpha": 6}),
    "bert-deft-qr": (bert, "DeftConfig", {**BIASED, "r": 3, "decomposition_method": "qr"}),
    "gpt2-deft-para": (gpt2, "DeftConfig", {**CONV1D, "r": 3, "para": True}),
    "llama-peanut": (llama, "PeanutConfig", {"target_modules": WIDE, "r": 3, "depth": 2, "act_fn": "silu"}),
    "bert-peanut": (bert, "PeanutConfig", {**BIASED, "r": 3, "scaling": 2.0}),
    "llama-psoft": (llama, "PsoftConfig", {"target_modules": WIDE, "r": 4, "psoft_alpha": 8}),
    "llama-psoft-neumann": (
        llama,
        "PsoftConfig",
        {"target_modules": QV, "r": 3, "use_cayley_neumann": True, "cayley_neumann_eps": 0.3, "psoft_mag_b": False},
    ),
    "bert-psoft-free": (
        bert,
        "PsoftConfig",
        {**BIASED, "r": 3, "psoft_orth": False, "ab_svd_init": "pissa_init", "psoft_svd": "lowrank"},
    ),
    "llama-tinylora": (llama, "TinyLoraConfig", {"target_modules": WIDE, "u": 6, "weight_tying": 0.5}),
    "gpt2-tinylora": (gpt2, "TinyLoraConfig", {**CONV1D, "r": 3, "u": 6}),
    "bert-tinylora": (bert, "TinyLoraConfig", {**BIASED, "u": 6, "weight_tying": 1.0}),
    "llama-unilora": (llama, "UniLoraConfig", {"target_modules": WIDE, "r": 2, "theta_d_length": 20}),
    "gpt2-unilora": (gpt2, "UniLoraConfig", {**CONV1D, "theta_d_length": 30, "save_indices": True}),
    "bert-unilora": (bert, "UniLoraConfig", {"target_modules": "all-linear", "proj_seed": 3, "task_type": "SEQ_CLS"}),
    "llama-osf": (llama, "OSFConfig", {"target_modules": WIDE, "effective_rank": 10}),
    "bert-osf": (bert, "OSFConfig", {**BIASED, "rank_pattern": {"query": 0.3}}),
    "llama-frod": (llama, "FrodConfig", {"target_modules": WIDE, "sparse_rate": 0.05, "progressbar": False}),
    "gpt2-frod": (gpt2, "FrodConfig", {**CONV1D, "progressbar": False}),
    "bert-frod": (bert, "FrodConfig", {**BIASED, "sparse_rate": 0.1, "progressbar": False}),
    "llama-supertuning": (llama, "SupertuningConfig", {"target_modules": WIDE, "sparsity": 0.9}),
    "bert-supertuning": (bert, "SupertuningConfig", {**BIASED, "sparsity": 0.95, "select_top": False, "r": 2}),
}
#: Name to (model, method, arguments of `create`).
FROM_ADAPTR: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-p-tuning": (llama, "p-tuning", {"tokens": 3, "hidden": 6}),
    "llama-cpt": (llama, "cpt", {"ids": [5, 9, 4], "types": [1, 2, 4]}),
    "llama-cartridge": (llama, "cartridge", {"ids": [5, 9, 4, 7]}),
    "gpt2-cartridge": (gpt2, "cartridge", {"tokens": 3}),
    "gpt2-p-tuning": (gpt2, "p-tuning", {"tokens": 3, "encoder": "mlp"}),
    "llama-prefix-mlp": (llama, "prefix", {"tokens": 3, "mlp": 5, "position_offset": "shift"}),
    "bert-p-tuning-v2": (bert, "p-tuning-v2", {"tokens": 3, "position_offset": "shift"}),
    "llama-adapter": (llama, "llama-adapter", {"tokens": 4, "gate": "layer", "activation": "none"}),
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
    "bert-beft": (bert, "beft", {"targets": "all-linear"}),
    "gpt2-deft": (gpt2, "deft", {"targets": "all-linear", "r": 2, "alpha": 3.0}),
    "llama-deft-qr": (llama, "deft", {"targets": "all-linear", "r": 2, "project": "qr"}),
    "llama-peanut": (llama, "peanut", {"targets": "all-linear", "r": 3, "depth": 1, "activation": "tanh"}),
    "llama-psoft": (llama, "psoft", {"targets": "all-linear", "r": 3, "terms": 5}),
    "bert-psoft": (bert, "psoft", {"targets": "all-linear", "r": 3, "svd": "lowrank", "a": False}),
    "gpt2-tinylora": (gpt2, "tinylora", {"targets": "all-linear", "u": 5, "tie": 0.7}),
    "gpt2-unilora": (gpt2, "unilora", {"targets": "all-linear", "r": 3, "d": 25}),
    "llama-unilora": (llama, "unilora", {"targets": ["attn.v", "attn.q", "mlp.down"], "d": 25, "seed": 7}),
    "bert-osf": (bert, "osf", {"targets": "all-linear", "overrides": {"*.0.*": {"k": 7}}}),
    "llama-frod": (llama, "frod", {"targets": "all-linear", "rate": 0.04}),
    "llama-supertuning": (llama, "supertuning", {"targets": "all-linear", "sparsity": 0.9, "r": 2, "alpha": 3.0}),
}
#: What is written for PEFT with the base's weights.
BASED = {"FrodConfig", "PsoftConfig"}


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    read_and_written_back(peft, *FROM_PEFT[name], tmp_path, based=FROM_PEFT[name][1] in BASED)


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote_is_written_again_to_the_same_numbers(peft: Any, name: str, tmp_path: Path) -> None:
    build, cls, arguments = FROM_PEFT[name]
    theirs = peft.get_peft_model(made(build), getattr(peft, cls)(**arguments))
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    adaptr.convert(tmp_path / "peft", tmp_path / "a.adaptr.safetensors", base=made(build))
    base = made(build) if cls in BASED else None
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "back", to="peft", base=base)
    was, now = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("peft", "back"))
    assert was.keys() == now.keys()
    assert all(was[key].dtype == now[key].dtype and torch.equal(was[key], now[key]) for key in was)


@pytest.mark.parametrize("name", FROM_ADAPTR)
def test_what_adaptr_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    written_and_read_back(peft, *FROM_ADAPTR[name], tmp_path)


def test_a_poly_is_one_adapter_for_each_task(peft: Any, tmp_path: Path) -> None:
    config = peft.PolyConfig(target_modules=WIDE, r=2, n_tasks=3, n_skills=2, n_splits=2, task_type="CAUSAL_LM")
    theirs, model = peft.get_peft_model(made(llama), config).eval(), made(llama)
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    with pytest.raises(e.ConfigMissing, match=r"each of its 3 tasks.*--task-number"):
        adaptr.load(tmp_path / "peft")
    found = []
    for task in range(3):
        with torch.no_grad():
            found.append(theirs(input_ids=IDS, task_ids=torch.full((len(IDS),), task)).logits)
        with adaptr.attach(model, adaptr.load(adaptr.source(tmp_path / "peft", task=task), model)):
            assert gap(outputs(model), found[-1]) <= 1e-5
    assert not torch.allclose(found[0], found[1], atol=1e-3), "all tasks are one"


def test_a_poly_is_written_to_the_same_numbers(peft: Any, tmp_path: Path) -> None:
    config = peft.PolyConfig(target_modules=WIDE, r=2, n_tasks=3, n_skills=2, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(made(llama), config).eval()
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    adaptr.convert(adaptr.source(tmp_path / "peft", task=1), tmp_path / "a.adaptr.safetensors")
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "back", to="peft")
    was, now = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("peft", "back"))
    assert was.keys() == now.keys()
    assert all(torch.equal(was[key], now[key]) for key in was)


def mpt(peft: Any, tasks: int, r: int = 1) -> Any:
    config = peft.MultitaskPromptTuningConfig(num_virtual_tokens=3, num_tasks=tasks, num_ranks=r, **CAUSAL)
    theirs = peft.get_peft_model(made(llama), config).eval()
    scrambled(theirs)
    return theirs


def prompted(theirs: Any, task: int = 0) -> torch.Tensor:
    with torch.no_grad():
        return theirs(input_ids=IDS, task_ids=torch.full((len(IDS),), task)).logits[:, 3:]


def test_a_multitask_prompt_is_one_prompt_for_each_task(peft: Any, tmp_path: Path) -> None:
    theirs, model = mpt(peft, 3, 2), made(llama)
    theirs.save_pretrained(tmp_path / "peft")
    with pytest.raises(e.ConfigMissing, match=r"each of its 3 tasks.*--task-number"):
        adaptr.load(tmp_path / "peft")
    found = []
    for task in range(3):
        found.append(prompted(theirs, task))
        adapter = adaptr.load(adaptr.source(tmp_path / "peft", task=task), model)
        with adaptr.attach(model, adapter):
            assert gap(outputs(model), found[-1]) <= 1e-5
    assert not torch.allclose(found[0], found[1], atol=1e-3), "all tasks are one"
    adaptr.save(adapter, tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "back", to="peft")
    was, now = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("peft", "back"))
    assert was.keys() == now.keys()
    assert all(torch.equal(was[key], now[key]) for key in was)


@pytest.mark.parametrize("finished", [False, True])
def test_a_multitask_prompt_is_written(peft: Any, finished: bool, tmp_path: Path) -> None:
    model = made(llama)
    adapter = shaken(adaptr.create(model, "mpt", tokens=3, r=2), by=0.3)
    if finished:
        adapter = plugins.method("mpt").materialised(adapter)
        assert [*adapter.tensors] == [":P"]
    with adaptr.attach(model, adapter):
        want = outputs(model)
    adaptr.save(adapter, tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft", base=model)
    theirs = peft.PeftModel.from_pretrained(made(llama), tmp_path / "peft").eval()
    assert gap(prompted(theirs), want) <= 1e-5
