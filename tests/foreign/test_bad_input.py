"""Broken, contradictory and hostile PEFT folders: each is refused with the error that says what is wrong."""

from __future__ import annotations

import json
import os
import pickle
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import adaptr
from adaptr import errors as e
from adaptr.converting.exporting import WRAPPERS
from adaptr.foreign.peft import keys, types

Q = "base_model.model.layers.0.q_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "fan_in_fan_out": False}
Tensors = dict[str, torch.Tensor]


def tensors() -> Tensors:
    return {f"{Q}.lora_A.weight": torch.ones(4, 6), f"{Q}.lora_B.weight": torch.ones(10, 4)}


def folder(path: Path, config: Any = CONFIG, weights: Tensors | None = None) -> Path:
    path.mkdir(exist_ok=True)
    save_file(tensors() if weights is None else weights, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def renamed(change: Callable[[str], str]) -> Tensors:
    return {change(key): tensor for key, tensor in tensors().items()}


def test_the_good_one_loads(tmp_path: Path) -> None:
    adapter = adaptr.load(folder(tmp_path / "a"))
    assert adapter.targets["layers.0.q_proj"].shape == (10, 6)
    assert adaptr.load(tmp_path / "a" / "adapter_model.safetensors").targets == adapter.targets


#: What is changed in the configuration, the error, and a word of its message.
CONFIGS = {
    "no type": ({"peft_type": None}, e.ConfigMissing, "peft_type"),
    "unknown type": ({"peft_type": "MAGIC"}, e.UnknownFormat, "MAGIC"),
    "later type": ({"peft_type": "SHADOW"}, e.Unsupported, "SHADOW"),
    "other type": ({"peft_type": "IA3"}, e.TensorUnknown, "lora_A"),
    "prompt type": ({"peft_type": "PROMPT_TUNING"}, e.NoAdapterTensors, "prompt_embeddings"),
    "no rank": ({"r": None}, e.ConfigMissing, "`r`"),
    "wrong rank": ({"r": 8}, e.ConfigConflict, "rank 8"),
    "rank of text": ({"r": "4"}, e.ConfigConflict, "wanted a number"),
    "rank of half": ({"r": 4.5}, e.ConfigConflict, "positive integer"),
    "rank is a flag": ({"r": True}, e.ConfigConflict, "wanted a number"),
    "pattern rank": ({"rank_pattern": {"q_proj": 3}}, e.ConfigConflict, "rank 3"),
    "pattern is no expression": ({"rank_pattern": {"q_(": 4}}, e.ConfigConflict, "regular expression"),
    "pattern is a list": ({"alpha_pattern": ["q"]}, e.ConfigConflict, "table"),
    "pattern of text": ({"alpha_pattern": {"q_proj": "8"}}, e.ConfigConflict, "wanted a number"),
    "no alpha": ({"lora_alpha": None}, e.ConfigMissing, "lora_alpha"),
    "flag of text": ({"use_rslora": "yes"}, e.ConfigConflict, "true or false"),
    "dora without magnitude": ({"use_dora": True}, e.ConfigConflict, "lora_magnitude_vector"),
    "bias without bias": ({"lora_bias": True}, e.ConfigConflict, "lora_B.bias"),
    "dora and bias": ({"use_dora": True, "lora_bias": True}, e.ConfigConflict, "both"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, e.Unsupported, "path_initial_model_for_weight_conversion"),
    "olora": ({"init_lora_weights": "olora"}, e.Unsupported, "olora"),
    "corda": ({"init_lora_weights": "corda"}, e.Unsupported, "corda"),
    "lora_ga": ({"init_lora_weights": "lora_ga"}, e.Unsupported, "lora_ga"),
    "loftq": ({"init_lora_weights": "loftq"}, e.Unsupported, "quantised base"),
    "alora of no ids": ({"alora_invocation_tokens": []}, e.ConfigConflict, "a list of ids of tokens"),
    "alora of text": ({"alora_invocation_tokens": "a"}, e.ConfigConflict, "a list of ids of tokens"),
    "alora and dora": ({"alora_invocation_tokens": [1], "use_dora": True}, e.ConfigConflict, "both set"),
    "alora of a parameter": (
        {"alora_invocation_tokens": [1], "target_parameters": ["q_proj.weight"]},
        e.Unsupported,
        "one of linear layers",
    ),
    "qalora of no group": ({"use_qalora": True, "qalora_group_size": 0}, e.ConfigConflict, "positive integer"),
    "bdlora": ({"use_bdlora": {"nblocks": 2}}, e.ConfigConflict, "has blocks in none"),
    "bdlora is a flag": ({"use_bdlora": True}, e.ConfigConflict, "a table of fields"),
    "kasa": ({"kasa_config": {"beta": 1}}, e.ConfigConflict, "lora_diag"),
    "kasa and velora": ({"kasa_config": {}, "velora_config": {"scale": 1}}, e.ConfigConflict, "both set"),
    "replication": ({"layer_replication": [[0, 4]]}, e.Unsupported, "repeated"),
    "tokens": ({"trainable_token_indices": [3]}, e.ConfigConflict, "no rows"),
    "megatron": ({"megatron_config": {"a": 1}}, e.Unsupported, "Megatron"),
    "experts without base": ({"target_parameters": ["q_proj.weight"]}, e.ConfigMissing, "--base"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration(tmp_path: Path, name: str) -> None:
    change, error, word = CONFIGS[name]
    with pytest.raises(error, match=word):
        adaptr.load(folder(tmp_path / "a", {**CONFIG, **change}))


#: What the weights are, the error, and a word of its message.
WEIGHTS = {
    "half of a pair": ({f"{Q}.lora_A.weight": torch.ones(4, 6)}, e.ConfigConflict, "lora_B"),
    "extra slot": ({**tensors(), f"{Q}.lora_B.bias": torch.ones(10)}, e.TensorUnknown, "lora_B.bias"),
    "extra method": ({**tensors(), f"{Q}.lora_diag": torch.ones(4)}, e.TensorUnknown, "lora_diag"),
    "extra tensor": ({**tensors(), f"{Q}.surprise": torch.ones(4)}, e.TensorUnknown, "surprise"),
    "other method": ({f"{Q}.hada_w1_a": torch.ones(4, 4)}, e.ConfigConflict, "hada_w1_a"),
    "only a head": ({"base_model.model.score.weight": torch.ones(4, 4)}, e.NoAdapterTensors, "none"),
    "empty": ({}, e.NoAdapterTensors, "no tensor"),
    "zero-3": ({**tensors(), f"{Q}.lora_A.weight": torch.ones(0)}, e.NoAdapterTensors, "ZeRO-3"),
    "scales": ({f"{Q}.alpha": torch.ones(1)}, e.NoAdapterTensors, "no adapter matrix"),
    "two adapters": (
        {**renamed(lambda k: k.replace("lora_A", "lora_A.one").replace("lora_B", "lora_B.two"))},
        e.ConfigConflict,
        "several adapters",
    ),
    "twice": ({**tensors(), f"{Q}.lora_A.default.weight": torch.ones(4, 6)}, e.ConfigConflict, "two names"),
    "grouped": (
        {f"{Q}.lora_A.weight": torch.ones(4, 6, 3), f"{Q}.lora_B.weight": torch.ones(10, 2, 1)},
        e.Unsupported,
        "grouped",
    ),
    "multi-head": (
        {f"{Q}.base_layer.out_proj.lora_A.weight": torch.ones(4, 6), **tensors()},
        e.Unsupported,
        "multi-head",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(tmp_path: Path, name: str) -> None:
    weights, error, word = WEIGHTS[name]
    with pytest.raises(error, match=word):
        adaptr.load(folder(tmp_path / "a", CONFIG, weights))


#: Traces of wrappers in keys that are understood.
WRAPPED = {
    "fsdp": lambda k: k.replace("layers", "_fsdp_wrapped_module.layers"),
    "compiled": lambda k: f"_orig_mod.{k}",
    "parallel": lambda k: f"module.{k}",
    "named": lambda k: k.replace(".weight", ".default.weight"),
    "bare": lambda k: k.removeprefix("base_model.model."),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_traces_of_wrappers(tmp_path: Path, name: str) -> None:
    adapter = adaptr.load(folder(tmp_path / "a", CONFIG, renamed(WRAPPED[name])))
    assert set(adapter.tensors) == {"layers.0.q_proj:A", "layers.0.q_proj:B"}


def test_saved_modules_of_old_versions(tmp_path: Path) -> None:
    """Their name is in the key, and the base's own copy beside them is not the adapter's."""
    head = {
        "base_model.model.score.modules_to_save.default.weight": torch.ones(2, 6),
        "base_model.model.score.original_module.weight": torch.zeros(2, 6),
    }
    adapter = adaptr.load(folder(tmp_path / "a", CONFIG, {**tensors(), **head}))
    assert list(adapter.replaced) == ["score.weight"]
    assert torch.equal(adapter.replaced["score.weight"], torch.ones(2, 6))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"r": }', "[" * 100_000, "\xff"])
def test_configuration_that_is_no_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(e.ForeignError, match=r"adapter_config\.json"):
        adaptr.load(folder(tmp_path / "a", text))


def test_no_configuration(tmp_path: Path) -> None:
    (folder(tmp_path / "a") / "adapter_config.json").unlink()
    for path in (tmp_path / "a", tmp_path / "a" / "adapter_model.safetensors"):
        with pytest.raises(e.ConfigMissing, match=r"adapter_config\.json"):
            adaptr.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_found(tmp_path: Path, value: float) -> None:
    weights = tensors()
    weights[f"{Q}.lora_B.weight"][3, 1] = value
    found = adaptr.inspect(folder(tmp_path / "a", CONFIG, weights), finite=True)
    assert found.nonfinite == ("layers.0.q_proj:B",)
    with pytest.raises(e.NonFinite, match=r"q_proj:B"):
        adaptr.convert(tmp_path / "a", tmp_path / "out.adaptr.safetensors")
    assert not (tmp_path / "out.adaptr.safetensors").exists()


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ('{"name": 5}', "`name` is 5"),
        ('{"license": null}', "`license` is None"),
        ('{"tags": 1}', "`tags` is `1`"),
        ('{"tags": "abc"}', "`tags` is `abc`"),
        ('{"lineage": []}', "`lineage` is"),
        ('{"training": "x"}', "`training` is"),
        ('{"base": 7}', "`base` is `7`"),
        ('{"base": {"content": []}}', "`base.content` is"),
        ("[]", "not a JSON object"),
    ],
)
def test_what_adaptr_is_said_to_have_written(tmp_path: Path, said: str, what: str) -> None:
    path = folder(tmp_path / "a")
    save_file(tensors(), path / "adapter_model.safetensors", {"adaptr.about": said})
    with pytest.raises(e.ForeignError, match=what):
        adaptr.load(path)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_not_executed(tmp_path: Path, zipped: bool, protocol: int) -> None:
    """The bomb would make a folder; a control shows that it works."""
    path = folder(tmp_path / "a")
    (path / "adapter_model.safetensors").unlink()
    bomb = {f"{Q}.lora_A.weight": Bomb(tmp_path / "boom")}
    weights = path / "adapter_model.bin"
    if zipped:
        with zipfile.ZipFile(weights, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(bomb, protocol))
            archive.writestr("archive/version", "3")
    else:
        weights.write_bytes(pickle.dumps(bomb, protocol))
    for call in (adaptr.load, adaptr.inspect):
        with pytest.raises((e.UnsafePickle, e.ForeignError)):
            call(path)
    (path / "adapter_config.json").unlink()
    with pytest.raises(e.AdaptrError):
        adaptr.load(weights)
    assert not (tmp_path / "boom").exists()
    pickle.loads(pickle.dumps(bomb, protocol))
    assert (tmp_path / "boom").exists()


def test_pickle_of_tensors_loads(tmp_path: Path) -> None:
    path = folder(tmp_path / "a")
    (path / "adapter_model.safetensors").unlink()
    torch.save(tensors(), path / "adapter_model.bin")
    assert adaptr.load(path).tensors["layers.0.q_proj:A"].shape == (4, 6)


def test_pickle_of_something_else(tmp_path: Path) -> None:
    path = folder(tmp_path / "a")
    (path / "adapter_model.safetensors").unlink()
    torch.save([torch.ones(2)], path / "adapter_model.bin")
    with pytest.raises(e.ConfigConflict, match="list"):
        adaptr.load(path)
    torch.save({"a": 3}, path / "adapter_model.bin")
    with pytest.raises(e.TensorUnknown, match="int"):
        adaptr.load(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
def test_cut_off_files(tmp_path: Path, share: float, name: str) -> None:
    path = folder(tmp_path / "a")
    if name.endswith(".bin"):
        (path / "adapter_model.safetensors").unlink()
        torch.save(tensors(), path / name)
    raw = (path / name).read_bytes()
    (path / name).write_bytes(raw[: int(share * len(raw))])
    with pytest.raises((e.ForeignError, e.FormatError)):
        adaptr.load(path)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    folder(tmp_path / "a")
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    with pytest.raises(e.OutputExists):
        adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    with pytest.raises(e.OutputExists):
        adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "a", to="peft")
    with pytest.raises(e.OutputExists, match="which even `--force` does not remove"):
        adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "a", to="peft", force=True)
    assert "operation" not in adaptr.load(tmp_path / "a").lineage


def test_unknown_format_has_a_near_name(tmp_path: Path) -> None:
    with pytest.raises(e.UsageError, match="did you mean `peft`"):
        adaptr.convert(folder(tmp_path / "a"), tmp_path / "b", to="pfet")


def test_the_name_of_a_repository_says_how_it_is_reached() -> None:
    for name, said in {"org/name-7B": True, "org/a.safetensors": False, "name": False, "a/b/c": False}.items():
        with pytest.raises(e.InputError, match="there is nothing at") as caught:
            adaptr.load(name)
        assert (f"hf://{name}" in str(caught.value)) is said


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(e.InputError, match="nothing at"):
        adaptr.load(tmp_path / "absent")


def test_an_initial_rank_is_no_reason_to_fill_the_memory(tmp_path: Path) -> None:
    """PEFT lists which of so many triplets are left; found by fuzzing: 15 GB of them."""
    weights = {
        f"{Q}.lora_A": torch.ones(2, 6),
        f"{Q}.lora_B": torch.ones(10, 2),
        f"{Q}.lora_E": torch.ones(2, 1),
    }
    config = {"peft_type": "ADALORA", "init_r": 2**53, "lora_alpha": 8, "target_modules": ["q_proj"], "total_step": 9}
    tracemalloc.start()
    try:
        with pytest.raises(e.Unsupported, match="rank_pattern"):
            adaptr.load(folder(tmp_path / "a", config, weights))
        assert tracemalloc.get_traced_memory()[1] < 100 << 20  # what is imported counts
    finally:
        tracemalloc.stop()
    made = adaptr.load(folder(tmp_path / "b", {**config, "init_r": 4}, weights))
    assert made.targets["layers.0.q_proj"].config["begun"] == 4


@pytest.mark.parametrize("shape", [(6,), (1, 6, 1), ()])
def test_blocks_of_another_number_of_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    config = {"peft_type": "OFT", "oft_block_size": 4, "target_modules": ["q_proj"], "peft_version": "0.19.0"}
    with pytest.raises(e.ConfigConflict, match="wanted \\(blocks, entries\\)"):
        adaptr.load(folder(tmp_path / "a", config, {f"{Q}.oft_R.weight": torch.ones(shape)}))


@pytest.mark.parametrize("slot", ["lora_A", "lora_embedding_A", "lokr_w1", "vera_lambda_b", "x"])
@pytest.mark.parametrize("end", ["", ".", "..", "..weight", "\n", ".\n"])
def test_a_long_key_is_read_in_no_time(slot: str, end: str) -> None:
    """A pickle's keys have no limit of length: 200 kB took minutes where slots were tried one after another."""
    started = time.process_time()
    (found,) = keys.read([f"base_model.model.q{f'.{slot}' * 20_000}{end}"], types.slots())
    assert time.process_time() - started < 1
    assert (found.slot == "") == (slot == "x" or end in {".", "..", "..weight"})


def test_wrappers_of_a_long_path_are_looked_for_in_no_time() -> None:
    started = time.process_time()
    for name in ("base_model", "base_layer", "original_module", "modules_to_save"):
        WRAPPERS.fullmatch(f"model{f'.{name}' * 20_000}\n")
    assert time.process_time() - started < 1
