"""Gates in files: whole with their experts or refused; soups are merged and exported as a delta."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    DigestMismatch,
    NotMergeable,
    TensorMissing,
)
from adaptr.testing import assert_close, bits_equal
from runtime.gates import gate, out


@pytest.mark.parametrize("method", ["xlora", "arrow", "lora-soups"])
def test_saved_with_its_experts_it_says_the_same(method: str, tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model, method)
    adaptr.save(made, tmp_path / "gate.safetensors")
    loaded = adaptr.load(tmp_path / "gate.safetensors")
    assert [p["name"] for p in loaded.lineage["parents"]] == ["a", "b", "c"]
    assert all(part.digest.startswith("sha256:") for part in loaded.parts.values())
    with adaptr.attach(model, made):
        wanted = out(model)
    with adaptr.attach(model, loaded):
        assert bits_equal(out(model), wanted)


def test_without_an_expert_or_with_another_it_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model)
    key = next(k for k in made.tensors if k.endswith(":b.w1_a"))
    file = tmp_path / "gate.safetensors"
    adaptr.save(made.replace(tensors={**made.tensors, key: made.tensors[key] + 1}), file)
    with pytest.raises(DigestMismatch, match="its part `b`"):
        adaptr.load(file)
    for lost in (key, ":W"):
        with pytest.raises(TensorMissing):
            adaptr.save(made.replace(tensors={k: v for k, v in made.tensors.items() if k != lost}), file, force=True)


def test_a_gate_has_no_weight_of_its_own(tmp_path: Path) -> None:
    model = tiny.model("llama")
    model.save_pretrained(tmp_path / "base")
    for method in ("xlora", "arrow"):
        adaptr.save(gate(model, method), tmp_path / f"{method}.safetensors")
        with pytest.raises(NotMergeable, match="lora-soups"):
            adaptr.merge(tmp_path / "base", [tmp_path / f"{method}.safetensors"], tmp_path / "out")


def test_soups_are_a_plain_delta(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny.model("llama")
    model.save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    made = gate(model, "lora-soups")
    file, plain = tmp_path / "soup.safetensors", tmp_path / "plain.safetensors"
    adaptr.save(made, file)
    with adaptr.attach(model, made):
        wanted = out(model)
    adaptr.merge(tmp_path / "base", [file], tmp_path / "merged")
    assert_close(out(AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()), wanted)
    report = adaptr.convert_method(file, plain, "lora")
    assert report.error < 1e-6
    exported = adaptr.load(plain)
    assert (exported.method, exported.parts) == ("lora", {})
    with adaptr.attach(model, exported):
        assert_close(out(model), wanted)


def test_soups_are_taken_out_of_a_checkpoint_again(tmp_path: Path) -> None:
    base, file = tmp_path / "base", tmp_path / "soup.safetensors"
    tiny.model("llama").save_pretrained(base)
    adaptr.save(gate(tiny.model("llama"), "lora-soups"), file)
    adaptr.merge(base, [file], tmp_path / "merged")
    assert adaptr.verify(tmp_path / "merged", base, [file]).exact
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_trained_gate_keeps_its_experts_as_they_were(tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = gate(model)
    with adaptr.train(model, made) as session:
        optimiser = torch.optim.Adam(session.parameters(), lr=0.1)
        model(**tiny.inputs("llama")).logits.square().mean().backward()
        optimiser.step()
        trained = session.adapted()
    changed = {k for k in made.tensors if not bits_equal(made.tensors[k], trained.tensors[k])}
    assert changed == {":W", ":b"}
    adaptr.save(trained, tmp_path / "gate.safetensors")
    adaptr.load(tmp_path / "gate.safetensors")
