"""The laws, on a format of one's own; and what MLX itself wrote and computed, where its files are."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import adaptr
import adaptr.testing
from adaptr import errors, foreign

SHARED = Path(os.environ.get("ADAPTR_SHARED") or Path(__file__).resolve().parents[3].parent / "shared")
FILES = SHARED / "formats-refs"
CASES = ("lora", "lora_keys_last", "lora_head", "dora")


class TestMlx(adaptr.testing.FormatLaws):
    format = "mlx"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    if not (FILES / "mlx").is_dir():
        pytest.skip(f"MLX's own files are not here: {FILES}")
    from transformers import AutoModelForCausalLM

    found: torch.nn.Module = AutoModelForCausalLM.from_pretrained(FILES / "llama" / "base", dtype=torch.float32)
    return found.eval()


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_mlx_does_what_it_does_there(model: torch.nn.Module, case: str) -> None:
    want = load_file(FILES / "mlx" / case / "expected.safetensors")
    ids = want["input_ids"].long()
    with torch.no_grad(), adaptr.attach(model, adaptr.load(FILES / "mlx" / case, model)):
        found = model(ids).logits
    assert float((want["logits"] - want["base_logits"]).abs().max()) > 1
    assert torch.allclose(found, want["logits"], atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_every_tensor_has_its_bytes(model: torch.nn.Module, case: str, tmp_path: Path) -> None:
    first = adaptr.convert(FILES / "mlx" / case, tmp_path / "a.safetensors")
    second = adaptr.convert(tmp_path / "a.safetensors", tmp_path / "back", to="mlx")
    assert (first.source_format, first.lost, second.lost) == ("mlx", (), ())
    before, after = (load_file(place / "adapters.safetensors") for place in (FILES / "mlx" / case, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_whole_layers_are_refused_by_name(model: torch.nn.Module) -> None:
    with pytest.raises(errors.Unsupported, match=r"`fine_tune_type` is 'full'.*adaptr extract"):
        adaptr.load(FILES / "mlx" / "full")


def test_a_peft_folder_becomes_mlx(tmp_path: Path) -> None:
    made = adaptr.testing.shaken(adaptr.create(adaptr.testing.tiny_llama(), "lora", ["attn.q"], r=4))
    foreign.get("peft").write(made, tmp_path / "peft")
    report = adaptr.convert(tmp_path / "peft", tmp_path / "mlx", to="mlx")
    assert (report.source_format, report.format, report.lost) == ("peft", "mlx", ())
    assert foreign.of(tmp_path / "mlx").name == "mlx"


def test_several_ranks_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    import dataclasses

    made = adaptr.create(adaptr.testing.tiny_llama(), "lora", ["attn.q"], r=4)
    path, target = next(iter(made.targets.items()))
    other = dataclasses.replace(target, config={**target.config, "alpha": 1.0})
    with pytest.raises(errors.Unsupported, match="one rank and one scale"):
        foreign.get("mlx").write(made.replace(targets={**made.targets, path: other}), tmp_path / "mlx")
    assert not (tmp_path / "mlx").exists()
