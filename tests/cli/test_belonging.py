"""Commands where an adapter and a base meet refuse one that names another base, and go on when told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import Base, api
from cli.conftest import Ran


@pytest.fixture(scope="module")
def peft(llama: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters as PEFT writes them, of `llama` by their names and of another base."""
    folder, found = tmp_path_factory.mktemp("peft"), {}
    for i, name in enumerate(("acme/llama", "acme/other")):
        adapter = api.load(lora).replace(base=Base(id=name))
        adapter = adapter.replace(tensors={key: (1 + i) * t for key, t in adapter.tensors.items()})
        api.save(adapter, folder / f"{i}.safetensors")
        api.convert(folder / f"{i}.safetensors", folder / str(i), "peft")
        found[name.partition("/")[2]] = folder / str(i)
    return found


@pytest.mark.parametrize("verb", ["merge", "verify", "apply", "gate train", "gate show", "stack", "compose"])
def test_another_base_is_refused_unless_said(
    llama: Path, peft: dict[str, Path], tmp_path: Path, adaptr: Callable[..., Ran], verb: str
) -> None:
    own, other, out = peft["llama"], peft["other"], tmp_path / "out"
    (tmp_path / "d.tsv").write_text("".join(f"w{i}\tw{i + 1}\n" for i in range(12)))
    api.merge(llama, [other], tmp_path / "merged", any_base=True)
    line = {
        "merge": ("merge", llama, other, "-o", out),
        "verify": ("verify", tmp_path / "merged", "--base", llama, "--adapter", other),
        "apply": ("apply", llama, other, "-p", "w1 w2", "--max-new-tokens", "1"),
        "gate train": ("gate", "train", llama, own, other, "--data", tmp_path / "d.tsv", "--steps", "1", "-o", out),
        "gate show": ("gate", "show", other, llama, "-p", "w1 w2"),
        "stack": ("stack", own, other, "--base", llama, "-o", out),
        "compose": ("compose", other, "--base", llama, "-o", out),
    }[verb]
    assert adaptr(*line, "--json").refused == (4, "WrongBase")
    assert not out.exists()
    told = adaptr(*line, "--any-base", "--json")
    assert told.code == 0 or told.refused == (2, "UsageError"), "a LoRA is no gate"


def test_the_report_says_what_was_compared(
    llama: Path, lora: Path, peft: dict[str, Path], tmp_path: Path, adaptr: Callable[..., Ran]
) -> None:
    api.save(api.load(lora).replace(tensors={k: 3 * t for k, t in api.load(lora).tensors.items()}), tmp_path / "a")
    ran = adaptr("merge", llama, tmp_path / "a", peft["llama"], "-o", tmp_path / "out", "--json")
    said = [{key: one[key] for key in ("content", "structure", "name")} for one in ran.json["compared"]]
    assert said[0]["content"] == "equal"
    assert said[1] == {"content": "unknown", "structure": "unknown", "name": "equal"}
    assert "names `acme/llama`, by name alone" in adaptr("merge", llama, peft["llama"], "-o", tmp_path / "out2").out
