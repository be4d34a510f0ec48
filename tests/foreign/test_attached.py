"""Published PEFT adapters on the model that they were trained on give the outputs that PEFT gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import adaptr
from adaptr.format import digest

NAMES = (
    "adalora",
    "boft",
    "hra",
    "ln-tuning",
    "ia3",
    "lokr",
    "lora",
    "lora-all-linear",
    "lora-bf16",
    "lora-bias",
    "lora-dora",
    "lora-emb-head",
    "lora-modules_to_save",
    "lora-pattern",
    "lora-rslora",
    "oft",
    "prompt",
    "ptuning",
    "shira",
    "vera",
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
    with adaptr.attach(model, adaptr.load(folder, base=model)):
        found = _logits(model, probe["input_ids"])
    want = probe["logits"][:, -found.shape[1] :]
    assert (found - want).abs().max() <= 1e-5 * max(1.0, float(want.abs().max()))
    assert (want - base).abs().max() > 1e-2, "the adapter changes nothing, so this test would prove nothing"
    assert torch.equal(_logits(model, probe["input_ids"]), base)


def test_with_its_base_the_kinds_are_the_bases(shared: Path, model: torch.nn.Module) -> None:
    """IA3 files say one side of a layer; with the base the other is known too."""
    folder = shared / "real" / "ref-peft-tinyshakes" / "ia3"
    alone, known = adaptr.load(folder), adaptr.load(folder, base=model)
    path = "model.layers.0.mlp.down_proj"
    assert alone.targets[path].shape == (0, 256)
    assert known.targets[path].shape == (96, 256)
    assert known.base.architecture == "LlamaForCausalLM"
    assert digest.of_adapter(alone) == digest.of_adapter(known)


def test_names_of_an_older_transformers(shared: Path) -> None:
    """A published ViT adapter names modules as transformers 4 did; it is found under today's names."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(num_labels=10)
    torch.manual_seed(0)
    vit = transformers.ViTForImageClassification(config).eval()
    adapter = adaptr.load(shared / "real" / "peft-lora-vit-age")
    assert "vit.encoder.layer.0.attention.attention.query" in adapter.targets
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        bare = vit(image).logits
        with adaptr.attach(vit, adapter) as handle:
            assert not torch.equal(vit(image).logits, bare)
            assert handle.adapter.targets["vit.layers.11.attention.v_proj"].config["r"] == 16
            with pytest.raises(adaptr.errors.AlreadyAttached):
                adaptr.attach(vit, adapter)
            layer = vit.vit.layers[3].attention.q_proj
            A, B = (adapter.tensors[f"vit.encoder.layer.3.attention.attention.query:{n}"] for n in "AB")
            x = torch.randn(2, 768)
            want = torch.nn.functional.linear(x, layer.weight, layer.bias) + x @ A.T @ B.T
            assert torch.allclose(layer(x), want, atol=1e-5)
        assert torch.equal(vit(image).logits, bare)


def _logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits
