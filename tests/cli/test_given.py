"""Commands say what they were given: where the store keeps an artifact is in no report, no note and no error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr as package
from adaptr.testing import shaken

from .conftest import saved


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder and a store: a base, adapters in two formats, a DoRA, a gate, a merge, and broken ones."""
    root = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTR_HOME", str(root / "zqstore"))
        patch.chdir(root)
        base = saved("llama", root / "base")
        import transformers

        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        made = shaken(package.create(model, "lora", ["attn.q"], r=2), 1, 0.3)
        other = shaken(package.create(model, "lora", ["attn.v"], r=2), 2, 0.3)
        package.save(made, "a.safetensors")
        package.convert("a.safetensors", "peft", to="peft")
        package.save(shaken(package.create(model, "dora", ["attn.q"], r=2), 3, 0.3), "d.safetensors")
        package.save(other, "b.safetensors")
        package.save(package.create(model, "xlora", children={"a": made, "b": other}), "gate.safetensors")
        package.save(made.replace(tensors={k: torch.full_like(t, torch.nan) for k, t in made.tensors.items()}), "nan")
        package.merge(base, made, root / "merged")
        (root / "twice").mkdir()
        for name in ("a.safetensors", "b.safetensors"):
            (root / "twice" / f"{name[0]}.adaptr.safetensors").write_bytes((root / name).read_bytes())
        (root / "beside").mkdir()
        for file in (root / "peft").iterdir():
            (root / "beside" / file.name).write_bytes(file.read_bytes())
        package.save(other, root / "value_head")
        (root / "value_head").rename(root / "beside" / "value_head.bin")
        for name in ("base", "merged", "peft", "a.safetensors", "b.safetensors", "d.safetensors", "gate.safetensors"):
            package.tag(root / name, f"{name.partition('.')[0]}:1")
        package.tag(root / "nan", "nan:1")
        (root / "qa.tsv").write_text("".join(f"w{i}\tw{i + 1} w{i + 2}\n" for i in range(12)))
        (root / "r.yaml").write_text("inputs:\n  - {adapter: 'a:1', weight: 0.5}\n  - adapter: b:1\n")
        _keys(root)
        for name in ("base", "merged", "peft", "a.safetensors", "b.safetensors", "d.safetensors", "nan"):
            (root / name).rename(root / f"moved-{name}")  # what is found is in the store
        yield root


def _keys(root: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    (root / "key.pem").write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    (root / "key.pub").write_bytes(public)


#: A command and the exit code that it ends with.
LINES: dict[str, tuple[list[str], int]] = {
    "inspect": (["inspect", "a:1"], 0),
    "inspect, another format": (["inspect", "peft:1"], 0),
    "inspect, finite": (["inspect", "nan:1", "--finite"], 1),
    "inspect a model": (["inspect", "base:1"], 0),
    "diff": (["diff", "a:1", "b:1"], 1),
    "diff, header": (["diff", "a:1", "peft:1", "--header"], 1),
    "diff against a model": (["diff", "a:1", "merged:1", "--base", "base:1"], 0),
    "diff of a transform": (["diff", "a:1", "d:1"], 5),
    "compose": (["compose", "a:1=0.5", "peft:1", "-o", "out", "--any-base"], 2),
    "compose two": (["compose", "a:1=0.5", "b:1", "-o", "out"], 0),
    "compose a recipe": (["compose", "r.yaml", "-o", "out"], 0),
    "compose a transform": (["compose", "a:1", "d:1", "-o", "out"], 5),
    "compose NaN": (["compose", "b:1", "nan:1", "-o", "out"], 3),
    "compose a model": (["compose", "a:1", "base:1", "-o", "out"], 3),
    "stack": (["stack", "a:1", "b:1=0.5", "-o", "out"], 0),
    "stack one twice": (["stack", "a:1", "a:1", "-o", "out"], 2),
    "convert": (["convert", "peft:1", "-o", "out"], 0),
    "convert NaN": (["convert", "nan:1", "-o", "out"], 3),
    "convert a model": (["convert", "base:1", "-o", "out"], 3),
    "convert a method": (["convert", "a:1", "--method", "full", "-o", "out"], 0),
    "convert a transform": (["convert", "d:1", "--method", "lora", "-o", "out"], 5),
    "convert for a server": (["convert", "a:1", "--for", "vllm", "--base", "base:1", "-o", "out"], 0),
    "convert a transform for a server": (["convert", "d:1", "--for", "vllm", "-o", "out"], 5),
    "resize": (["resize", "a:1", "--rank", "1", "-o", "out"], 0),
    "resize to more": (["resize", "a:1", "--rank", "7", "-o", "out"], 2),
    "quantize": (["quantize", "a:1", "--scheme", "int8", "-o", "out"], 0),
    "quantize NaN": (["quantize", "nan:1", "--error", "0.1", "-o", "out"], 3),
    "extract": (["extract", "base:1", "merged:1", "--rank", "2", "-o", "out"], 0),
    "extract of an adapter": (["extract", "base:1", "a:1", "--rank", "2", "-o", "out"], 3),
    "merge": (["merge", "base:1", "a:1", "b:1=0.5", "-o", "out"], 0),
    "merge into an adapter": (["merge", "a:1", "b:1", "-o", "out"], 3),
    "merge a gate": (["merge", "base:1", "gate:1", "-o", "out"], 5),
    "merge NaN": (["merge", "base:1", "nan:1", "-o", "out"], 3),
    "merge a model": (["merge", "base:1", "base:1", "-o", "out"], 3),
    "unmerge without a receipt": (["unmerge", "merged:1", "-o", "out"], 5),
    "unmerge the base": (["unmerge", "base:1", "-o", "out"], 5),
    "verify": (["verify", "merged:1", "--base", "base:1", "--adapter", "a:1"], 0),
    "verify what is none": (["verify", "merged:1", "--base", "base:1", "--adapter", "b:1"], 1),
    "verify a signature": (["verify", "a:1", "--key", "key.pub"], 7),
    "verify the store": (["verify"], 0),
    "apply": (["apply", "base:1", "a:1", "--prompt", "w1", "--max-new-tokens", "2"], 0),
    "apply a model": (["apply", "base:1", "base:1", "--prompt", "w1"], 3),
    "apply to an adapter": (["apply", "a:1", "b:1", "--prompt", "w1"], 3),
    "gate train": (["gate", "train", "base:1", "a:1", "b:1", "--data", "qa.tsv", "--steps", "1", "-o", "out"], 0),
    "gate show": (["gate", "show", "gate:1", "base:1", "--prompt", "w1"], 0),
    "gate show of none": (["gate", "show", "a:1", "base:1", "--prompt", "w1"], 2),
    "push": (["push", "a:1", "file:///{root}/layout#a"], 0),
    "push as another": (["push", "a:1", "file:///{root}/layout#b", "--as", "peft"], 0),
    "push NaN as another": (["push", "nan:1", "file:///{root}/layout#c", "--as", "peft"], 3),
    "push a model as an adapter": (["push", "base:1", "file:///{root}/layout#d", "--as", "peft"], 3),
    "sign": (["sign", "b:1", "--key", "key.pem"], 0),
    "log": (["log", "a:1"], 0),
    "log of a merge without its receipt": (["log", "merged:1"], 3),
    "log of a model": (["log", "base:1"], 3),
    "list": (["list"], 0),
    "tag": (["tag", "a:1", "again:1"], 0),
    "search": (["search", "lora"], 0),
}


@pytest.mark.parametrize("form", ["text", "--json", "-v"])
@pytest.mark.parametrize("line", LINES)
def test_no_place_of_the_store_is_told(
    adaptr: Callable[..., Any], line: str, form: str, place: Path, tmp_path: Path
) -> None:
    words, code = LINES[line]
    words = [str(tmp_path / "out") if word == "out" else word.replace("/{root}", str(tmp_path)) for word in words]
    ran = adaptr(*words, *([] if form == "text" else [form]))
    told = ran.out + ran.err.partition("Traceback")[0]
    assert ran.code == code, told
    assert "zqstore" not in told


def test_reports_have_what_was_given(adaptr: Callable[..., Any], place: Path, tmp_path: Path) -> None:
    def said(*words: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(adaptr(*words, "--json").out)
        return found

    assert said("inspect", "a:1")["source"] == "a:1"
    assert [said("diff", "a:1", "b:1")[side] for side in "ab"] == ["a:1", "b:1"]
    assert said("resize", "a:1", "--rank", 1, "-o", tmp_path / "r")["source"] == "a:1"
    extracted = said("extract", "base:1", "merged:1", "--rank", 2, "-o", tmp_path / "e")
    assert (extracted["base"], extracted["tuned"]) == ("base:1", "merged:1")
    verified = said("verify", "merged:1", "--base", "base:1", "--adapter", "a:1")
    assert verified["merged"] == "merged:1"
    applied = said("apply", "base:1", "a:1=0.5", "--prompt", "w1", "--max-new-tokens", 1)
    assert (applied["base"], applied["adapters"][0]["source"]) == ("base:1", "a:1")
    assert said("log", "a:1")["nodes"][0]["found"] == "a:1"
