"""Published PEFT adapters on the model that they were trained on give the outputs that PEFT gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import adaptr
from adaptr.format import digest

NAMES = (
    "ia3",
    "lora",
    "lora-all-linear",
    "lora-bf16",
    "lora-bias",
    "lora-dora",
    "lora-emb-head",
    "lora-modules_to_save",
    "lora-pattern",
    "lora-rslora",
    "prompt",
    "ptuning",
)


@pytest.fixture(scope="module")
def model(shared: Path) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    path = shared / "real-data" / "tinyshakes-llama"
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", NAMES)
def test_gives_what_peft_gave(shared: Path, model: torch.nn.Module, name: str) -> None:
    folder = shared / "real" / "ref-peft-tinyshakes" / name
    probe = load_file(folder / "probe.safetensors")
    base = _logits(model, probe["input_ids"])
    with adaptr.attach(model, adaptr.load(folder)):
        found = _logits(model, probe["input_ids"])
    want = probe["logits"][:, -found.shape[1] :]
    assert (found - want).abs().max() <= 1e-5 * max(1.0, float(want.abs().max()))
    assert (want - base).abs().max() > 1e-2, "the adapter changes nothing, so this test would prove nothing"
    assert torch.equal(_logits(model, probe["input_ids"]), base)


def test_with_its_base_the_kinds_are_the_bases(shared: Path, model: torch.nn.Module) -> None:
    """IA3 files say one side of a layer; with the base the other is known too."""
    folder = shared / "real" / "ref-peft-tinyshakes" / "ia3"
    alone, known = adaptr.load(folder), adaptr.load(folder, base=shared / "real-data" / "tinyshakes-llama")
    path = "model.layers.0.mlp.down_proj"
    assert alone.targets[path].shape == (0, 256)
    assert known.targets[path].shape == (96, 256)
    assert known.base.architecture == "LlamaForCausalLM"
    assert digest.of_adapter(alone) == digest.of_adapter(known)


def _logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits
