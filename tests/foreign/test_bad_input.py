"""Broken and contradictory PEFT folders: each is refused with the error that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adaptr
from adaptr import errors as e
from foreign.peft_folders import CONFIG, Q, folder, renamed, tensors


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
    "experts without base": ({"target_parameters": ["q_proj.weight"]}, e.ConfigMissing, "base="),
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


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    folder(tmp_path / "a")
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    with pytest.raises(e.OutputExists):
        adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    with pytest.raises(e.OutputExists):
        adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "a", to="peft")
    with pytest.raises(e.OutputExists, match="which even `force=True` does not remove"):
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
