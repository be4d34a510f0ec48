"""attach, merge, verify, unmerge on two real models. Skipped where their packages are not installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import real_models
import torch

import adaptr
from adaptr.format import digest

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Real:
    """A model as a folder, and a LoRA for it as a file."""

    folder: Path
    kind: str
    lora: Path

    def load(self, folder: Path) -> Any:
        import transformers

        return getattr(transformers, self.kind).from_pretrained(folder).eval()

    def output(self, model: Any) -> torch.Tensor:
        from transformers import AutoTokenizer

        given = AutoTokenizer.from_pretrained(self.folder)("The capital of France is", return_tensors="pt")
        with torch.no_grad():
            out: torch.Tensor = model(**given)[0]
        return out


def _real(package: str, folder: Any, kind: str, out: Path) -> Real:
    if reason := real_models.missing(package):
        pytest.skip(reason)
    made = Real(folder(), kind, out / "lora.safetensors")
    fresh = adaptr.create(made.load(made.folder), "lora", ["attn.q", "attn.v", "mlp.down"], r=4, name="random")
    generator = torch.Generator().manual_seed(0)
    tensors = {k: 0.02 * torch.randn(t.shape, generator=generator) for k, t in fresh.tensors.items()}
    adaptr.save(fresh.replace(tensors=tensors), made.lora)
    return made


@pytest.fixture(scope="module", params=["smollm2", "minilm"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Real:
    out = tmp_path_factory.mktemp(request.param)
    if request.param == "smollm2":
        return _real(real_models.SMOLLM2, real_models.smollm2, "AutoModelForCausalLM", out)
    return _real(real_models.MINILM, real_models.minilm, "AutoModel", out)


@pytest.fixture(scope="module")
def merged(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "model"
    adaptr.merge(real.folder, [(real.lora, 0.8)], out)
    return out


def test_attached_is_merged_and_detaching_leaves_no_trace(real: Real, merged: Path) -> None:
    model = real.load(real.folder)
    bare = real.output(model)
    with adaptr.attach(model, adaptr.load(real.lora), 0.8):
        attached = real.output(model)
    assert torch.equal(real.output(model), bare)
    baked = real.output(real.load(merged))
    assert float((attached - bare).abs().max()) > 0.01
    assert torch.allclose(attached, baked, atol=1e-5 * float(bare.abs().max()), rtol=1e-4)


def test_the_merge_is_proven_and_another_weight_is_not(real: Real, merged: Path) -> None:
    assert adaptr.verify(merged, real.folder, [(real.lora, 0.8)]).exact
    assert not adaptr.verify(merged, real.folder, [(real.lora, 0.7)]).ok


def test_unmerge_gives_the_bases_bytes(real: Real, merged: Path, tmp_path: Path) -> None:
    adaptr.unmerge(merged, tmp_path / "base")
    assert digest.of_file(tmp_path / "base" / WEIGHTS) == digest.of_file(real.folder / WEIGHTS)
    assert digest.of_file(merged / WEIGHTS) != digest.of_file(real.folder / WEIGHTS)


def test_smollm2_knows_its_capital() -> None:
    if reason := real_models.missing(real_models.SMOLLM2):
        pytest.skip(reason)
    from adaptr.runtime.apply import apply

    answer = apply(real_models.smollm2(), [], ["The capital of France is"], max_new_tokens=3).answers[0]
    assert "Paris" in answer.text
