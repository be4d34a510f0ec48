"""LitGPT's LoRA: what its models compute, on a base of transformers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import shaken
from foreign.test_laws import one_group

QKV = "transformer.h.0.attn.qkv"
MODEL = "n_head: 2\nhead_size: 3\nn_query_groups: 1\n"
TRAINING = "lora_r: 2\nlora_alpha: 8\nlora_query: true\nlora_key: false\nlora_value: true\n"


@pytest.fixture(scope="module")
def model(shared: Path) -> Any:
    from transformers import AutoModelForCausalLM

    base = shared / "formats-refs" / "llama" / "base"
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def copied(shared: Path, place: Path, case: str) -> Path:
    folder = shutil.copytree(shared / "formats-refs" / "litgpt" / case, place / case)
    (folder / "expected.safetensors").unlink()
    return folder


def saved(folder: Path, tensors: dict[str, Tensor], model: str = MODEL, training: str = TRAINING) -> Path:
    torch.save({"model": tensors}, folder / "lit_model.pth.lora")
    for name, text in (("model_config.yaml", model), ("hyperparameters.yaml", training)):
        if text:
            (folder / name).write_text(text)
    return folder


def pair(path: str, rank: int = 4, into: int = 5, out: int = 9, r: int = 2) -> dict[str, Tensor]:
    return {f"{path}.lora_A": torch.randn(rank, into), f"{path}.lora_B": torch.randn(out, r)}


@pytest.mark.parametrize("case", ["lora_qv", "lora_all"])
def test_a_file_of_litgpt_does_what_it_does_there(case: str, model: Any, shared: Path, tmp_path: Path) -> None:
    want = load_file(shared / "formats-refs" / "litgpt" / case / "expected.safetensors")
    found = adaptr.load(copied(shared, tmp_path, case), model)
    with torch.no_grad(), adaptr.attach(model, found):
        logits = model(want["input_ids"]).logits
    assert float((want["logits"] - want["base_logits"]).abs().max()) > 1
    torch.testing.assert_close(logits, want["logits"], atol=1e-5, rtol=0)


def test_without_its_hyperparameters_what_they_say_is_asked_for(shared: Path, tmp_path: Path) -> None:
    folder = copied(shared, tmp_path, "lora_qv")
    whole = adaptr.load(folder)
    (folder / "hyperparameters.yaml").unlink()
    with pytest.raises(e.ConfigMissing, match=r"which of queries.*`--enable-lora 1,0,1`"):
        adaptr.load(folder)
    with pytest.raises(e.ConfigMissing, match=r"alpha of the adapter.*`lora_alpha` in LitGPT's"):
        adaptr.load(adaptr.source(folder, enable_lora=[True, False, True]))
    found = adaptr.load(adaptr.source(folder, enable_lora=[True, False, True], alpha=9))
    assert found.targets == whole.targets
    assert all(torch.equal(found.tensors[key], value) for key, value in whole.tensors.items())


def test_parts_are_rows_of_both_factors(tmp_path: Path) -> None:
    tensors = pair(QKV)
    found = adaptr.load(saved(tmp_path, tensors))
    a, b = tensors.values()
    for name, first, rows in (("q_proj", 0, slice(0, 6)), ("v_proj", 2, slice(6, 9))):
        want = 4 * b[rows] @ a[first : first + 2]
        torch.testing.assert_close(found[f"model.layers.0.self_attn.{name}"].dense(), want)


@pytest.mark.parametrize(
    ("tensors", "files", "error", "match"),
    [
        (pair(QKV), {"model": ""}, e.ConfigMissing, "put its `model_config.yaml` beside it"),
        (pair(QKV, rank=6), {}, e.ConfigConflict, "4 rows, of 2 parts of rank 2"),
        (pair(QKV, out=12), {}, e.ConfigConflict, "9 rows, as the parts have"),
        (pair("transformer.h.0.attn.attn"), {}, e.Unsupported, "before 0.5"),
        (pair("transformer.h.0.mlp.fc"), {}, e.TensorUnknown, "on a model like Llama"),
        (pair("lm_head", rank=3), {}, e.ConfigConflict, "as `lora_A` has rank 3"),
        (pair(QKV), {"model": MODEL + "mlp_class_name: GptNeoxMLP\n"}, e.Unsupported, "GptNeoxMLP"),
        (pair(QKV), {"model": "n_head: two\nhead_size: 3\n"}, e.ConfigConflict, "`n_head`"),
        (pair(QKV), {"training": "- 1\n"}, e.ForeignError, "`hyperparameters.yaml` holds a list"),
        (pair(QKV), {"training": "a: [\n"}, e.ForeignError, "`hyperparameters.yaml` can't be read"),
        (pair(QKV) | pair(QKV.replace("h.0", "h.00")), {}, e.ConfigConflict, "are one tensor"),
    ],
)
def test_what_is_wrong_is_refused(
    tensors: dict[str, Tensor], files: dict[str, str], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, tensors, **files))


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"alpha": 8}, "`--alpha` is given, and `hyperparameters.yaml` has the alpha"),
        ({"enable_lora": [True, False, True]}, "`--enable-lora` is given, and `hyperparameters.yaml` says"),
    ],
)
def test_what_is_there_is_not_said_again(said: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(e.UsageError, match=match):
        adaptr.load(adaptr.source(saved(tmp_path, pair(QKV)), **said))


def test_parts_of_no_fused_projection_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, pair("transformer.h.0.attn.proj", rank=2), training="lora_alpha: 4\n")
    with pytest.raises(e.UsageError, match="no module of the file is a fused projection"):
        adaptr.load(adaptr.source(folder, enable_lora=[True, False, True]))


def test_a_file_with_its_names_is_its_own(tmp_path: Path) -> None:
    saved(tmp_path, pair(QKV) | pair("lm_head", rank=2))
    assert foreign.of(tmp_path / "lit_model.pth.lora").name == "litgpt"
    assert foreign.of(tmp_path).name == "litgpt"


# ---------------------------------------------------------------- LLaMA-Adapter


def test_what_litgpt_cuts_at_the_wrong_rows_is_refused(model: Any, shared: Path, tmp_path: Path) -> None:
    folder = copied(shared, tmp_path, "adapter")
    for base in (None, model):
        with pytest.raises(e.Unsupported, match="by weights of queries too, where a model has several groups"):
            adaptr.load(folder, base)


def test_a_llama_adapter_of_before_is_read(tmp_path: Path) -> None:
    rows, gate = torch.randn(3, 8), torch.randn(1, 4, 1, 1)
    tensors = {f"transformer.h.{i}.attn.{name}": value for i in (1, 2)
               for name, value in (("adapter_wte.weight", rows), ("gating_factor", gate))}  # fmt: skip
    torch.save({"model": tensors}, tmp_path / "lit_model.pth.adapter")
    found = adaptr.load(tmp_path)
    assert (found.method, found.config["layers"], found.config["activation"]) == ("llama-adapter", 2, "none")
    assert torch.equal(found.at("model.layers.2.self_attn")["g"], gate.view(4, 1, 1))


def test_so_it_is_of_version_2(model: Any, shared: Path, tmp_path: Path) -> None:
    folder = copied(shared, tmp_path, "adapter_v2")
    for base in (None, model):
        with pytest.raises(e.Unsupported, match="by weights of queries too, where a model has several groups"):
            adaptr.load(folder, base)


@pytest.fixture
def single() -> Any:
    return one_group()


def output(model: Any, adapter: adaptr.Adapter) -> torch.Tensor:
    with torch.no_grad(), adaptr.attach(model, adapter):
        found: torch.Tensor = model(torch.arange(14).reshape(2, 7) + 3).logits
        return found


@pytest.mark.parametrize(("method", "file"), [("llama-adapter", "adapter"), ("llama-adapter-v2", "adapter_v2")])
def test_what_is_written_does_the_same_with_its_model_or_its_configuration(
    method: str, file: str, single: Any, tmp_path: Path
) -> None:
    """Gates behind a tanh are written as what comes of it."""
    adapter = shaken(adaptr.create(single, method, tokens=3, layers=1), by=0.3)
    adaptr.save(adapter, tmp_path / "own.safetensors")
    report = adaptr.convert(tmp_path / "own.safetensors", tmp_path / "out", to="litgpt-adapter", base=single)
    assert "`adapter_prompt_length` 3 and `adapter_start_layer` 1" in " ".join(report.notes)
    assert (tmp_path / "out" / f"lit_model.pth.{file}").exists()
    found, wanted = adaptr.load(tmp_path / "out", single), output(single, adapter)
    torch.testing.assert_close(output(single, found), wanted, atol=1e-5, rtol=0)
    said = "n_head: 4\nhead_size: 8\nn_query_groups: 1\n"
    (tmp_path / "out" / "model_config.yaml").write_text(said)
    assert torch.equal(output(single, adaptr.load(tmp_path / "out")), output(single, found))


@pytest.mark.parametrize(
    ("method", "config", "match"),
    [
        ("lora", {}, "no LLaMA-Adapter of `lora`"),
        ("llama-adapter", {"gate": "layer"}, "a gate for each head"),
        ("llama-adapter", {"targets": ["model.layers.0.self_attn"]}, "in each of the topmost layers"),
    ],
)
def test_what_litgpt_has_no_file_of_is_refused(
    method: str, config: dict[str, Any], match: str, single: Any, tmp_path: Path
) -> None:
    adapter = adaptr.create(single, method, config.pop("targets", None), **config)
    with pytest.raises(e.Unsupported, match=match):
        foreign.get("litgpt-adapter").write(adapter, tmp_path / "out")


def test_norms_are_written_with_their_base_alone(single: Any, tmp_path: Path) -> None:
    adapter = adaptr.create(single, "llama-adapter-v2", tokens=3, layers=1)
    with pytest.raises(e.ConfigMissing, match="the norms' own values"):
        foreign.get("litgpt-adapter").write(adapter, tmp_path / "out")


def test_several_groups_are_not_written(model: Any, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="several groups"):
        foreign.get("litgpt-adapter").write(adaptr.create(model, "llama-adapter", layers=1), tmp_path / "out")


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        ({"adapter_wte.weight": (2, 8)}, e.TensorAbsent, "has no `gating_factor`"),
        ({"adapter_wte.weight": (2, 8), "gating_factor": (2, 1, 1, 1)}, e.ConfigConflict, "one for each head"),
        ({"adapter_wte.weight": (2,), "gating_factor": (1, 1, 2, 1)}, e.ConfigConflict, "2 axes"),
        ({"other": (2, 8)}, e.TensorUnknown, "no tensor of a LitGPT LLaMA-Adapter"),
    ],
)
def test_what_is_wrong_in_a_llama_adapter_is_refused(
    tensors: dict[str, tuple[int, ...]], error: type[Exception], match: str, tmp_path: Path
) -> None:
    found = {f"transformer.h.0.attn.{name}": torch.ones(shape) for name, shape in tensors.items()}
    torch.save({"model": found}, tmp_path / "lit_model.pth.adapter")
    with pytest.raises(error, match=match):
        adaptr.load(tmp_path)
