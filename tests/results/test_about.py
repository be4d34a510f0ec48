"""What a PEFT folder says beside tensors and configuration is kept by every operation, or listed as lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import adaptr
import tiny
from adaptr import api
from adaptr.cli import run
from adaptr.testing import shaken

CARD = "---\nlicense: mit\nbase_model: acme/base\n---\n# Style\n\nSpeaks like a pirate, ärr.\n"
METADATA = {"author": "Ada", "tool_version": "axolotl 0.9", "license": "mit"}
Write = Callable[[Path, Path], Any]


def folder(path: Path, seed: int = 1, card: str = CARD, **metadata: str) -> Path:
    """A PEFT folder as other tools leave it: a task, a card, and entries in the file's metadata."""
    made = shaken(adaptr.create(tiny.model("llama"), "lora", "attn.q", r=4), seed)
    adaptr.save(made.replace(base=adaptr.Base(id="acme/base", revision="v1")), path.with_suffix(".safetensors"))
    adaptr.convert(path.with_suffix(".safetensors"), path, to="peft")
    weights = path / "adapter_model.safetensors"
    save_file(load_file(weights), weights, {"format": "pt", **METADATA, **metadata})
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM"}))
    if card:
        (path / "README.md").write_bytes(card.encode())
    return path


def said(path: Path) -> dict[str, Any]:
    config = json.loads((path / "adapter_config.json").read_text())
    with safe_open(path / "adapter_model.safetensors", "pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key in METADATA}
    card = path / "README.md"
    return {
        "task": config["task_type"],
        "base": config["base_model_name_or_path"],
        "revision": config["revision"],
        "metadata": metadata,
        "card": card.read_bytes().decode() if card.is_file() else "",
    }


def between(operation: Any, source: Path, out: Path, **options: Any) -> Path:
    made = out.with_name("between.safetensors")
    operation(source, made, **options)
    return made


ONE: dict[str, Write] = {
    "convert": lambda source, out: adaptr.convert(source, out, to="peft"),
    "resize": lambda source, out: adaptr.convert(between(adaptr.resize, source, out, rank=2), out, to="peft"),
    "convert to lora": lambda source, out: api.convert_method(source, out, "lora", "peft"),
    "for a server": lambda source, out: api.serve(source, out, "vllm"),
    "through a file": lambda source, out: adaptr.convert(between(adaptr.convert, source, out), out, to="peft"),
}


@pytest.mark.parametrize("operation", ONE)
def test_of_one_adapter_everything_is_kept(tmp_path: Path, operation: str) -> None:
    source = folder(tmp_path / "a")
    ONE[operation](source, tmp_path / "out")
    want = {"task": "CAUSAL_LM", "base": "acme/base", "revision": "v1", "metadata": METADATA, "card": CARD}
    assert said(source) == want
    assert said(tmp_path / "out") == want
    assert adaptr.load(tmp_path / "out").license == "mit"


def test_of_several_what_all_say_is_kept_and_the_rest_is_listed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", 1), folder(tmp_path / "b", 2, card="", author="Bob")
    made = adaptr.compose([a, b], out=tmp_path / "c.safetensors")
    adaptr.convert(tmp_path / "c.safetensors", tmp_path / "out", to="peft")
    found = said(tmp_path / "out")
    assert (found["task"], found["base"], found["card"]) == ("CAUSAL_LM", "acme/base", "")
    assert found["metadata"] == {key: METADATA[key] for key in ("license", "tool_version")}
    assert made.report.lost == (
        f"`{a}/adapter_model.safetensors`: metadata `author`, model card",
        f"`{b}/adapter_model.safetensors`: metadata `author`",
    )
    assert run(["compose", str(a), str(b), "-o", str(tmp_path / "d.safetensors")]) == 0
    assert "model card" in capfd.readouterr().out


def test_another_task_is_listed_and_not_guessed(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 1), folder(tmp_path / "b", 2)
    config = json.loads((b / "adapter_config.json").read_text())
    (b / "adapter_config.json").write_text(json.dumps({**config, "task_type": "SEQ_CLS"}))
    lost = [line.rpartition(": ")[2].split(", ")[0] for line in adaptr.compose([a, b]).report.lost]
    assert lost == ["task_type CAUSAL_LM", "task_type SEQ_CLS"]


def test_the_licence_is_read_from_the_head_of_the_card(tmp_path: Path) -> None:
    source = folder(tmp_path / "a")
    weights = source / "adapter_model.safetensors"
    save_file(load_file(weights), weights, {"format": "pt"})
    assert adaptr.inspect(source).license == "mit"
    (source / "README.md").write_text("license: mit\n", encoding="utf-8")  # prose
    assert adaptr.inspect(source).license == ""


@pytest.mark.parametrize("card", [b"\xff\xfe\x00", b"x" * 300_000], ids=["no text", "too large"])
def test_a_card_that_cannot_be_kept_is_listed(tmp_path: Path, card: bytes) -> None:
    source = folder(tmp_path / "a")
    (source / "README.md").write_bytes(card)
    assert adaptr.convert(source, tmp_path / "out", to="peft").lost == ("model card (too large, or no text)",)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_peft_loads_what_was_composed_resized_and_converted(tmp_path: Path) -> None:
    """Its `Auto` classes need the task."""
    peft = pytest.importorskip("peft")
    base = tmp_path / "base"
    tiny.model("llama").save_pretrained(base)
    a, b = folder(tmp_path / "a", 1), folder(tmp_path / "b", 2)
    adaptr.compose([a, b], out=tmp_path / "c.safetensors")
    adaptr.resize(tmp_path / "c.safetensors", tmp_path / "d.safetensors", rank=2)
    adaptr.convert(tmp_path / "d.safetensors", tmp_path / "out", to="peft")
    file = tmp_path / "out" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "base_model_name_or_path": str(base), "revision": None}))
    assert peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "out")) is not None


def tuned(path: Path, source: Path) -> Path:
    """A copy of a checkpoint with one weight changed."""
    shutil.copytree(source, path)
    weights = path / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, name: tensors[name] + 0.1}, weights, {"format": "pt"})
    return path


@pytest.mark.parametrize(
    ("said", "asked", "want"),
    [
        ("acme/base", "", "acme/base"),
        ("acme/base", "other/name", "other/name"),
        ("/home/ada/secret/base", "", None),
        ("./base", "", None),
        ("", "", None),
    ],
)
def test_what_was_extracted_names_the_base_by_its_public_name(
    tmp_path: Path, said: str, asked: str, want: str | None
) -> None:
    base = tmp_path / "base"
    tiny.model("llama").save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "_name_or_path": said}))
    made = adaptr.extract(base, tuned(tmp_path / "tuned", base), tmp_path / "d.safetensors", rank=2, base_name=asked)
    adaptr.convert(tmp_path / "d.safetensors", tmp_path / "out", to="peft")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == want
    assert config["task_type"] == "CAUSAL_LM"
    assert any("--base-name" in note for note in made.notes) == (want is None)
    assert b"secret" not in (tmp_path / "d.safetensors").read_bytes()


def test_a_result_says_that_its_parents_say_how_they_were_trained(tmp_path: Path) -> None:
    made = [shaken(adaptr.create(tiny.model("llama"), "lora", "attn.q", r=4), seed) for seed in range(2)]
    report = adaptr.compose([one.replace(training={"steps": 1}) for one in made]).report
    assert all("how it was trained (the result names its parents by digest" in one for one in report.lost)
    assert len(report.lost) == 2
