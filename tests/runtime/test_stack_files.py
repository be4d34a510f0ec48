"""Stacks in files: saved, merged and refused as one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import AlreadyAttached, BadConfig, DigestMismatch, NotPossible, Unsupported, UsageError
from adaptr.testing import assert_close
from runtime.stacks import PATTERNS, WEIGHTS, adapter, four, out


def test_the_same_weights_twice_are_refused_even_from_two_files(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(adapter(model, 1), tmp_path / "a.safetensors")
    one, two = adaptr.load(tmp_path / "a.safetensors"), adaptr.load(tmp_path / "a.safetensors")
    with pytest.raises(AlreadyAttached, match="the weights of `a`; give it once"):
        adaptr.stack(model, {"a": one, "b": two})


def test_saved_as_one_file_it_comes_back_whole(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapters = {**four(model), "e": adapter(model, 5, "dora", ["mlp.up"])}
    with adaptr.stack(model, {name: (one, WEIGHTS.get(name, 1.0)) for name, one in adapters.items()}) as stack:
        stack["d"] = PATTERNS
        stack.off("a")
        stack.reorder("ebcda")
        found, saved = out(model), stack.adapted("mixture")
    file = tmp_path / "stack.safetensors"
    adaptr.save(saved, file)
    loaded = adaptr.load(file)
    assert [parent["name"] for parent in loaded.lineage["parents"]] == list("ebcda")
    with adaptr.attach(model, loaded):
        assert_close(out(model), found)
    with adaptr.stack(model, file) as stack:
        assert (list(stack), stack.active, stack["d"]) == (list("ebcda"), tuple("ebcd"), PATTERNS)
        assert_close(out(model), found)
        stack.on("a")
    again = tmp_path / "again.safetensors"
    adaptr.save(loaded, again)
    assert again.read_bytes() == file.read_bytes()


def test_merged_as_a_whole_it_is_what_was_attached(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    tiny.model("llama").save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    dora = adapter(model, 5, "dora", ["attn.q"])
    with adaptr.stack(model, {**four(model), "e": dora}) as stack:
        stack["b"] = PATTERNS
        stack.off("c")
        found, saved = out(model), stack.adapted()
    adaptr.save(saved, tmp_path / "stack.safetensors")
    adaptr.merge(base, [tmp_path / "stack.safetensors"], tmp_path / "merged")
    assert_close(out(AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()), found)
    assert adaptr.verify(tmp_path / "merged", base, [tmp_path / "stack.safetensors"]).exact
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_changed_part_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)) as stack:
        saved = stack.adapted()
    key = next(key for key in saved.tensors if key.endswith(":b.A"))
    file = tmp_path / "stack.safetensors"
    adaptr.save(saved.replace(tensors={**saved.tensors, key: saved.tensors[key] + 1}), file)
    with pytest.raises(DigestMismatch, match="its part `b` has weights of digest"):
        adaptr.load(file)


def test_what_can_be_no_part_is_refused() -> None:
    model = tiny.model("llama")
    a, mam = adapter(model, 1), adaptr.create(model, "mam", m=4, tokens=2)
    with adaptr.stack(model, {"a": a, "mam": mam}) as stack, pytest.raises(Unsupported, match="made of other adapters"):
        stack.adapted()
    with (
        adaptr.stack(model, {"Not a name": a}) as stack,
        pytest.raises(UsageError, match="can't be the name of a part"),
    ):
        stack.adapted()
    with pytest.raises(UsageError, match="none was given"):
        adaptr.stack(model, {}).adapted()
    with pytest.raises(UsageError, match="is no stack"):
        adaptr.stack(model, a)
    with pytest.raises(BadConfig, match="wanted"):
        adaptr.create(model, "stack", children={"a": a}, order=["b"])


def test_whole_parameters_of_parts_come_along(tmp_path: Path) -> None:
    model = tiny.model("llama")
    norm = "model.norm.weight"
    one = adapter(model, 1)
    one = one.replace(tensors={**one.tensors, f"{norm}:=": torch.linspace(0.5, 2, 32)})
    two, three = adapter(model, 2), adapter(model, 3)
    three = three.replace(tensors={**three.tensors, f"{norm}:=": torch.ones(32)})
    with adaptr.stack(model, {"one": one, "two": two}) as stack:
        found, saved = out(model), stack.adapted()
        with pytest.raises(AlreadyAttached, match="has replaced"):
            stack.add("three", three)
    adaptr.save(saved, tmp_path / "stack.safetensors")
    with adaptr.attach(model, adaptr.load(tmp_path / "stack.safetensors")):
        assert_close(out(model), found)
    assert adaptr.inspect(tmp_path / "stack.safetensors").replaced == (norm,)
    with pytest.raises(NotPossible, match="both replace"):
        adaptr.create(model, "stack", children={"one": one, "three": three})
