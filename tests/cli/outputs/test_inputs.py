"""No output is, holds or lies in an input, whatever the command and however it is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from adaptr.cli import group
from cli.conftest import Ran
from cli.outputs.conftest import tree

#: Command line to what it reads; `OUT` is where it writes. Names are in the folder of `kit`.
FILES = {
    "convert": (("convert", "style", "-o", "OUT"), ["style"]),
    "convert a file": (("convert", "a.safetensors", "-o", "OUT"), ["a.safetensors"]),
    "convert --method": (("convert", "style", "--method", "full", "--base", "base", "-o", "OUT"), ["style", "base"]),
    "drop": (("drop", "style", "--layers", "0", "-o", "OUT"), ["style"]),
    "bake": (("bake", "base", "p.safetensors", "-o", "OUT"), ["base", "p.safetensors"]),
    "resize": (("resize", "style", "--rank", "1", "-o", "OUT"), ["style"]),
    "quantize": (("quantize", "style", "--scheme", "nf4", "-o", "OUT"), ["style"]),
    "extract": (("extract", "base", "merged", "--rank", "2", "-o", "OUT"), ["base", "merged"]),
    "compose": (("compose", "style", "a.safetensors", "-o", "OUT"), ["style", "a.safetensors"]),
    "compose a recipe": (("compose", "r.yaml", "-o", "OUT"), ["r.yaml", "style"]),
    "stack": (("stack", "style", "a.safetensors", "--base", "base", "-o", "OUT"), ["style", "a.safetensors", "base"]),
    "gate train": (
        ("gate", "train", "base", "style", "a.safetensors", "--data", "d.tsv", "-o", "OUT"),
        ["base", "style", "a.safetensors", "d.tsv"],
    ),
    "gate show": (("gate", "show", "a.safetensors", "base", "-p", "w1", "--html", "OUT"), ["a.safetensors", "base"]),
    "diff": (("diff", "style", "a.safetensors", "--html", "OUT"), ["style", "a.safetensors"]),
    "train": (("train", "base", "--data", "d.jsonl", "--steps", "1", "-o", "OUT"), ["base", "d.jsonl"]),
    "train --report": (
        ("train", "base", "--data", "d.jsonl", "--steps", "1", "-o", "new.safetensors", "--report", "OUT"),
        ["base", "d.jsonl"],
    ),
    "eval": (
        ("eval", "base", "a.safetensors", "--data", "d.jsonl", "--html", "OUT"),
        ["base", "a.safetensors", "d.jsonl"],
    ),
    "sign": (("sign", "a.safetensors", "--key", "k.key", "-o", "OUT"), ["a.safetensors", "k.key"]),
}
FOLDERS = {
    "merge": (("merge", "base", "style", "a.safetensors=0.5", "-o", "OUT"), ["base", "style", "a.safetensors"]),
    "merge a file": (("merge", "base/model.safetensors", "style", "-o", "OUT"), ["base/model.safetensors", "style"]),
    "unmerge": (("unmerge", "merged", "-o", "OUT"), ["merged"]),
    "convert": (("convert", "a.safetensors", "--to", "peft", "-o", "OUT"), ["a.safetensors"]),
    "convert --for": (("convert", "style", "--for", "vllm", "-o", "OUT"), ["style"]),
    "pull": (("pull", "file://HERE/style", "-o", "OUT"), ["style"]),
}


def line(words: tuple[str, ...], kit: Path, out: Path | str) -> list[str]:
    """The command line with whole paths."""
    named = {"OUT": str(out), **{str(p.relative_to(kit)): str(p) for p in kit.rglob("*")}}
    found = [named.get(word, word.replace("HERE", str(kit))) for word in words]
    return [word if not word.startswith("a.safetensors=") else f"{kit}/{word}" for word in found]


def ways(path: Path, spare: Path) -> Iterator[Path]:
    """Outputs that are an input, or lie in it."""
    spare.mkdir()
    yield path
    yield path.parent / "nowhere" / ".." / path.name
    (spare / "link").symlink_to(path)
    yield spare / "link"
    (spare / "around").symlink_to(path.parent)
    yield spare / "around" / path.name
    if path.is_dir():
        yield path / "new"
        yield path / "deep/er/new"
        yield spare / "link" / "new"
    else:
        os.link(path, spare / "hard")
        yield spare / "hard"


@pytest.mark.parametrize("what", FILES)
def test_no_file_is_written_over_or_into_an_input(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran], what: str
) -> None:
    words, inputs = FILES[what]
    for name in inputs:
        for out in ways(kit / name, tmp_path / name.replace("/", "-")):
            assert adaptr(*line(words, kit, out), "--force", "--json").refused == (2, "OutputExists"), out


@pytest.mark.parametrize("what", FILES)
def test_no_file_is_called_as_a_folder(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran], what: str) -> None:
    """Found in 0.1.0: `-o new/` wrote a file `new`."""
    words, _ = FILES[what]
    ran = adaptr(*line(words, kit, f"{tmp_path}/new/"), "--json")
    assert ran.refused == (2, "UsageError"), what
    assert "new/` is the name of a folder" in ran.json["error"]["message"]
    assert not (tmp_path / "new").exists()


def test_no_weights_are_called_as_a_pickle_and_that_is_said_first(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]
) -> None:
    """Found in 0.1.0: a training said so when it was done."""
    ran = adaptr(*line(FILES["train"][0], kit, f"{tmp_path}/new.bin"), "--steps", "1000000", "--json")
    assert ran.refused == (2, "UsageError")
    assert "pickle" in ran.json["error"]["message"]


def test_a_merged_file_is_not_called_as_a_folder(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    ran = adaptr(*line(FOLDERS["merge a file"][0], kit, f"{tmp_path}/new.safetensors/"), "--json")
    assert ran.refused == (2, "UsageError")


@pytest.mark.parametrize("what", FOLDERS)
def test_no_folder_is_written_over_around_or_into_an_input(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran], what: str
) -> None:
    words, inputs = FOLDERS[what]
    for name in inputs:
        for out in (*ways(kit / name, tmp_path / name.replace("/", "-")), kit, kit.parent, tmp_path / "x" / ".."):
            assert adaptr(*line(words, kit, out), "--force", "--json").refused == (2, "OutputExists"), out


def test_every_command_that_writes_is_looked_at() -> None:
    """A new one must be put into a table above; `login`, `push` and the like write no output of this machine."""
    covered = {words[0] for words, _ in (*FILES.values(), *FOLDERS.values())}
    context = click.Context(group.cli, **group.cli.context_settings)
    writes = set()
    for name in group.cli.list_commands(context):
        found = group.cli.get_command(context, name)
        for one in found.commands.values() if isinstance(found, click.Group) else [found]:
            writes |= {name} if {"out", "html", "page", "report"} & {p.name for p in one.params} else set()
    assert writes == covered


def test_what_is_linked_from_an_input_is_part_of_it(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    """As the Hub's cache has it: names in one folder, bytes in another."""
    shutil.copytree(kit / "base", tmp_path / "blobs")
    (tmp_path / "names").mkdir()
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "names" / file.name).symlink_to(file)
    before = tree(tmp_path / "blobs")
    ran = adaptr("merge", tmp_path / "names", kit / "a.safetensors", "-o", tmp_path / "blobs", "--force", "--json")
    assert ran.refused == (2, "OutputExists")
    ran = adaptr("convert", kit / "style", "-o", tmp_path / "blobs/config.json", "--force", "-q")
    assert ran.code == 0, "what is no input is any file"
    (tmp_path / "blobs/config.json").write_bytes((kit / "base/config.json").read_bytes())
    assert tree(tmp_path / "blobs") == before


@pytest.mark.parametrize("place", ["store", "store/blobs/new", "policy.yaml", "."])
def test_what_adaptr_keeps_of_this_user_is_no_output(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran], place: str
) -> None:
    home = tmp_path / "home"
    assert adaptr("tag", kit / "a.safetensors", "mine").code == 0
    (home / "policy.yaml").write_text("- scope: '*'\n  keys: [a]\n  mode: warn\n")
    before = tree(home)
    for words in (("convert", kit / "a.safetensors", "--to", "peft"), ("convert", kit / "style"))[: 1 + (place != ".")]:
        assert adaptr(*words, "-o", home / place, "--force", "--json").refused == (2, "OutputExists")
    assert tree(home) == before


@pytest.mark.parametrize(("layout", "source"), [("style/layout", "style"), ("style/a/b", "style")])
def test_no_layout_is_made_in_what_is_pushed(kit: Path, adaptr: Callable[..., Ran], layout: str, source: str) -> None:
    assert adaptr("push", kit / source, f"file://{kit / layout}#x", "--json").refused == (2, "OutputExists")
    assert adaptr("copy", f"file://{kit / source}", f"file://{kit / layout}#x", "--json").refused == (2, "OutputExists")
