"""MLX-LM's adapters as adapters: what its own files do, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import adaptr
import tiny
from adaptr import errors as e
from foreign.mlx_folders import CASES, Q, factors, folder, parameters


@pytest.fixture(scope="module")
def base(shared: Path) -> Path:
    return shared / "formats-refs" / "llama" / "base"


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@pytest.fixture
def genuine(shared: Path, tmp_path: Path) -> Any:
    """A copy of one of MLX-LM's own folders, without what it computed."""

    def copied(case: str) -> Path:
        place = shutil.copytree(shared / "formats-refs" / "mlx" / case, tmp_path / case)
        (place / "expected.safetensors").unlink()
        return place

    return copied


# ---------------------------------------------------------------- what MLX-LM computes


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_mlx_does_what_it_does_there(case: str, model: Any, base: Path, shared: Path, genuine: Any) -> None:
    """In fp32 MLX's logits of the bare base are 4e-6 from those in fp64, and transformers' 3e-6."""
    want = load_file(shared / "formats-refs" / "mlx" / case / "expected.safetensors")
    with torch.no_grad(), adaptr.attach(model, adaptr.load(genuine(case), base)):
        found = model(want["input_ids"].long()).logits
    assert float((want["logits"] - want["base_logits"]).abs().max()) > 0.5
    torch.testing.assert_close(found, want["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if case != "full"])
def test_there_and_back_every_tensor_has_its_bytes(case: str, genuine: Any, tmp_path: Path) -> None:
    first = adaptr.convert(genuine(case), tmp_path / "a.adaptr.safetensors")
    second = adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "back", to="mlx")
    assert (first.source_format, first.lost, second.lost) == ("mlx", (), ())
    before, after = (load_file(place / "adapters.safetensors") for place in (tmp_path / case, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    said, again = (json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in (case, "back"))
    assert again == said


def test_the_archive_of_before_is_the_same_once_its_scale_is_said(genuine: Any, tmp_path: Path) -> None:
    want = adaptr.load(genuine("lora_keys_last"))
    (tmp_path / "old").mkdir()
    shutil.copy(tmp_path / "lora_keys_last" / "adapters.npz", tmp_path / "old")
    with pytest.raises(e.ConfigMissing, match=r"alpha of the adapter is not in the file.*`--alpha`.*had 20"):
        adaptr.load(tmp_path / "old")
    for place in (tmp_path / "old", tmp_path / "old" / "adapters.npz"):
        found = adaptr.load(adaptr.source(place, scale=10.0))
        assert found.targets == {
            path: dataclasses.replace(target, config={**target.config}) for path, target in want.targets.items()
        }
        assert all(torch.equal(found.tensors[key], value) for key, value in want.tensors.items())


def test_a_published_file_whose_configuration_has_an_alpha_too(shared: Path, tmp_path: Path) -> None:
    """MLX-LM reads the scale, 10, and not the alpha, 16."""
    place = shutil.copytree(shared / "real" / "mlx-lora-qwen25-05b", tmp_path / "qwen")
    found = adaptr.load(place)
    assert {target.config["alpha"] for target in found.targets.values()} == {80.0}
    assert "/Users" not in json.dumps(found.foreign)
    assert found.base.id == ""


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ({"lora_parameters": parameters(scale=None)}, e.ConfigMissing, "alpha of the adapter is not in the file"),
        ({"lora_parameters": parameters(scale=None, alpha=16)}, e.ConfigMissing, "its `alpha` is nothing that MLX-LM"),
        ({"lora_parameters": parameters(scale="2")}, e.ConfigConflict, "`scale`"),
        ({"lora_parameters": parameters(scale=1e308)}, e.ConfigConflict, "`scale`"),
        ({"lora_parameters": parameters(rank=3)}, e.ConfigConflict, "has rank 2, wanted 3"),
        ({"lora_parameters": parameters(keys=["self_attn.v_proj"])}, e.ConfigConflict, "`keys`.*leave out `model"),
        ({"lora_parameters": []}, e.ConfigConflict, "`lora_parameters`"),
        ({"num_layers": 1}, e.ConfigConflict, "`num_layers`.*is 1, wanted 2"),
        ({"num_layers": 1.5}, e.ConfigConflict, "`num_layers`"),
        ({"fine_tune_type": "bitfit"}, e.Unsupported, "`fine_tune_type` is `bitfit`"),
        ({"fine_tune_type": "dora"}, e.TensorAbsent, "has no `m`"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused(
    config: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    place = folder(tmp_path / "a", factors(Q.format(0)) | factors(Q.format(1)), **config)
    with pytest.raises(error, match=match):
        adaptr.load(place)


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        ({"x.weight": torch.ones(2, 2)}, e.TensorUnknown, "`x.weight` is no factor"),
        ({f"{Q.format(0)}.lora_a": torch.ones(6, 2)}, e.TensorAbsent, "no `lora_b`"),
        (factors(Q.format(0)) | {f"{Q.format(0)}.lora_b": torch.ones(3, 4)}, e.ConfigConflict, "rank 2"),
        (factors(Q.format(0)) | {f"{Q.format(0)}.m": torch.ones(4)}, e.ConfigConflict, "is a magnitude"),
        (
            {f"{Q.format(0)}.lora_a": torch.ones(3, 2, 6), f"{Q.format(0)}.lora_b": torch.ones(3, 4, 2)},
            e.Unsupported,
            "each expert of a stack",
        ),
    ],
)
def test_tensors_that_are_wrong_are_refused(
    tensors: dict[str, Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(folder(tmp_path / "a", tensors))


def test_an_alpha_that_the_configuration_has_is_not_said_again(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", factors(Q.format(0)))
    with pytest.raises(e.UsageError, match="`--alpha` is given, and the configuration has the scale"):
        adaptr.load(adaptr.source(place, alpha=4))


def test_layers_before_the_last_of_the_base_are_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    out, into = model.get_submodule(Q.format(0)).weight.shape
    place = folder(tmp_path / "a", factors(Q.format(0), 2, into, out), num_layers=1)
    assert adaptr.load(place).targets
    with pytest.raises(e.ConfigConflict, match=r"`num_layers`.*layer 0 of 2"):
        adaptr.load(place, model)


def test_whole_parameters_need_the_base(genuine: Any, model: Any) -> None:
    place = genuine("full")
    with pytest.raises(e.ConfigMissing, match=r"difference from the base's.*`base=`"):
        adaptr.load(place)
    with pytest.raises(e.UsageError, match="whole parameters have none"):
        adaptr.load(adaptr.source(place, scale=1.0), model)
    with pytest.raises(e.WrongBase):
        adaptr.load(place, tiny.model("llama"))


def test_whole_parameters_are_a_difference_and_norms(genuine: Any, model: Any) -> None:
    found = adaptr.load(genuine("full"), model)
    assert found.method == "full"
    assert sorted(path.split(".")[-2] for path in found.replaced_paths) == [
        "input_layernorm",
        "post_attention_layernorm",
    ]
    trained = load_file(Path(found.source))
    for path in found.targets:
        merged = model.get_parameter(f"{path}.weight") + found.tensors[f"{path}:D"]
        torch.testing.assert_close(merged, trained[f"{path}.weight"], atol=1e-7, rtol=0)


def test_states_of_the_training_are_no_other_weights(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", factors(Q.format(0)))
    shutil.copy(place / "adapters.safetensors", place / "0000100_adapters.safetensors")
    save_file({"x.lora_a": torch.ones(2, 2)}, place / "0000200_adapters.safetensors")
    assert adaptr.inspect(place).beside == ()
