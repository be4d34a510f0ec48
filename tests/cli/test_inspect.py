from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from adaptr import api

KEYS = {
    "source", "format", "file", "size", "name", "release", "summary", "license", "tags", "method", "version", "config",
    "parts", "base", "targets", "tensors", "trained", "replaced", "nbytes", "dtypes", "quantization", "lineage",
    "training", "file_digest", "weights_digest", "nonfinite",
}  # fmt: skip


def test_json_has_the_documented_keys(adaptr: Callable, lora: Path) -> None:
    found = adaptr("inspect", lora, "--json").json
    assert set(found) == KEYS
    assert (found["method"], found["name"], found["tensors"], found["nonfinite"]) == ("lora", "style", 8, None)
    assert found["targets"] == [{"kind": "linear", "count": 4, "rank": 8}]


def test_the_text_says_what_matters(adaptr: Callable, lora: Path) -> None:
    text = adaptr("inspect", lora).out
    for word in ("style", "lora (version 1)", "4 linear of rank 8", "LlamaForCausalLM", "sha256:"):
        assert word in text


def test_finite_looks_at_the_values(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    assert adaptr("inspect", lora, "--finite", "--json").json["nonfinite"] == []
    adapter = api.load(lora)
    key = next(iter(adapter.tensors))
    broken = {**adapter.tensors, key: torch.full_like(adapter.tensors[key], torch.nan)}
    api.save(adapter.replace(tensors=broken), tmp_path / "nan.safetensors")
    ran = adaptr("inspect", tmp_path / "nan.safetensors", "--finite")
    assert ran.code == 1
    assert f"not finite  {key}" in ran.out


def test_bad_input_is_refused(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(lora.read_bytes()[:-1])
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "pointer.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert adaptr("inspect", tmp_path / "cut.safetensors", "--json").refused == (3, "DataTruncated")
    assert adaptr("inspect", tmp_path / "text.safetensors", "--json").code == 3
    assert adaptr("inspect", tmp_path / "pointer.bin", "--json").refused == (3, "LfsPointer")
    assert adaptr("inspect", tmp_path / "nothing", "--json").refused == (3, "InputError")
    assert adaptr("inspect", "--json").refused == (2, "UsageError")


def test_parents_and_arguments_are_told_as_text(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    """Found in 0.1.0: a line of JSON, of more than four hundred characters."""
    other = api.load(lora).replace(name="other")
    tensors = {key: tensor + 1 for key, tensor in other.tensors.items()}
    api.compose([(lora, 0.5), (other.replace(tensors=tensors), {"*": 0.3})], out=tmp_path / "c")
    said = adaptr("inspect", tmp_path / "c").out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    digests = [parent["weights"] for parent in api.load(tmp_path / "c").lineage["parents"]]
    assert lines[lines.index("lineage") :][:4] == [
        "lineage",
        "operation compose",
        "strategy linear",
        "weights 0.5, *=0.3",
    ]
    assert lines[lines.index("parents") :][1:4] == [
        "name format weights",
        f"style adaptr {digests[0]}",
        f"other memory {digests[1]}",
    ]
    assert "{" not in said


def test_of_a_base_it_says_how_the_weights_lie(adaptr: Callable, shared: Path) -> None:
    base = shared / "quant-refs" / "bnb-nf4"
    text = adaptr("inspect", base).out
    assert "LlamaForCausalLM" in text
    assert "bnb-nf4" in text
    found = adaptr("inspect", base, "--json").json
    assert found["kind"] == "base"
    packed, floats = found["lying"]
    assert (packed["scheme"], packed["tensors"], packed["numbers"]) == ("bnb-nf4", 7, 163840)
    assert 4.5 < 8 * packed["bytes"] / packed["numbers"] < 4.6
    assert floats["scheme"] == "BF16"


def test_values_of_a_base_are_not_looked_at(adaptr: Callable, shared: Path) -> None:
    assert adaptr("inspect", "--finite", shared / "quant-refs" / "bnb-nf4").code == 2
