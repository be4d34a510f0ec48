"""An output of adaptr is replaced where that is asked for; a stranger in it is named and stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import Base, api
from adaptr.files import record, replacing_folder
from cli.conftest import Ran
from cli.outputs.conftest import tree


def test_a_stranger_in_an_output_is_named_and_stays(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    home = tmp_path / "thesis"
    home.mkdir()
    (home / "thesis.txt").write_text("years")
    for words in (
        ("merge", kit / "base", kit / "a.safetensors"),
        ("unmerge", kit / "merged"),
        ("convert", kit / "a.safetensors", "--to", "peft"),
        ("convert", kit / "style", "--for", "vllm"),
        ("pull", f"file://{kit}/style"),
    ):
        ran = adaptr(*words, "-o", home, "--force")
        assert (ran.code, "`thesis.txt`" in ran.err) == (2, True)
        assert (home / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("verb", ["merge", "unmerge", "peft", "vllm", "pull"])
def test_an_output_of_adaptr_is_replaced(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran], verb: str) -> None:
    words = {
        "merge": ("merge", kit / "base", kit / "a.safetensors"),
        "unmerge": ("unmerge", kit / "merged"),
        "peft": ("convert", kit / "a.safetensors", "--to", "peft"),
        "vllm": ("convert", kit / "style", "--for", "vllm"),
        "pull": ("pull", f"file://{kit}/style"),
    }[verb]
    made = []
    for force in ((), ("--force",), ("--force",)):
        assert adaptr(*words, "-o", tmp_path / "out", *force, "-q").code == 0
        made.append({Path(p).name: d for p, d in tree(tmp_path / "out").items()})
    assert made[0] == made[1] == made[2], "the same inputs, the same bytes, the record included"


def test_the_record_goes_nowhere_else(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    """A copy of an output is published, merged and signed as if there were no record."""
    plain = shutil.copytree(kit / "style", tmp_path / "plain")
    (plain / record.NAME).unlink()
    tags = [adaptr("tag", folder, f"t{i}", "--json").json["digest"] for i, folder in enumerate((kit / "style", plain))]
    assert tags[0] == tags[1]
    assert (kit / "merged" / record.NAME).is_file()
    api.save(api.load(kit / "b.safetensors").replace(base=Base()), tmp_path / "any.safetensors")
    assert adaptr("merge", kit / "merged", tmp_path / "any.safetensors", "-o", tmp_path / "twice", "-q").code == 0
    listed = (tmp_path / "twice" / record.NAME).read_text()
    assert record.NAME not in listed


def test_a_signature_in_an_output_is_adaptrs_too(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    out = tmp_path / "out"
    words = ("convert", kit / "a.safetensors", "--to", "peft", "-o", out)
    assert adaptr(*words).code == 0
    assert adaptr("sign", out, "--key", kit / "k.key").code == 0
    assert adaptr("verify", out, "--key", kit / "k.pub").code == 0
    assert adaptr(*words, "--force").code == 0
    with replacing_folder(tmp_path / "plain") as plain:
        (plain / "x").write_text("x")
    for target in ("x", "../k.key"):
        shutil.copyfile(kit / "k.key", tmp_path / "k.key")
        words = ("sign", tmp_path / "plain", "--key", tmp_path / "k.key", "-o", tmp_path / "plain" / target, "--force")
        assert adaptr(*words).code == 2, target
    assert (tmp_path / "plain/x").read_text() == "x"
