"""No output is, holds or lies in an input, whatever the command and however it is named; and adapters stay apart."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from adaptr import Base, api
from adaptr.cli import group
from adaptr.files import record, replacing_folder
from cli.conftest import Ran, randomised
from registry.signers import key

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


@pytest.fixture(scope="module")
def kit(llama: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("outputs") / "here"
    shutil.copytree(llama, here / "base")
    shutil.copyfile(lora, here / "a.safetensors")
    adapter = randomised(llama, "b")
    api.save(randomised(llama, "p", "prompt", None), here / "p.safetensors")
    api.save(adapter.replace(tensors={k: 2 * t for k, t in adapter.tensors.items()}), here / "b.safetensors")
    api.convert(here / "b.safetensors", here / "style", "peft")
    api.merge(here / "base", [here / "a.safetensors"], here / "merged")
    (here / "r.yaml").write_text("inputs:\n  - adapter: style\n  - adapter: a.safetensors\n")
    (here / "d.tsv").write_text("".join(f"w{i}\tw{i + 1}\n" for i in range(20)))
    (here / "d.jsonl").write_text("".join(f'{{"prompt": "w{i} ", "completion": "w{i + 1}"}}\n' for i in range(20)))
    key(here / "k.key", 256)
    return here


@pytest.fixture(autouse=True)
def nothing_changes(kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    before = tree(kit)
    yield
    assert tree(kit) == before


def tree(folder: Path) -> dict[str, str]:
    """All below a folder: files by their content."""
    paths = sorted(folder.rglob("*"))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths}


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
    context = click.Context(group.cli)
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


# ---------------------------------------------------------------- adapters in one folder


def test_nothing_is_written_into_the_folder_of_another_adapter(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]
) -> None:
    run = shutil.copytree(kit / "style", tmp_path / "run")
    before = tree(run)
    for source in (run, run / "adapter_model.safetensors", kit / "a.safetensors"):
        for out in (run, run / "x.safetensors", run / "adapter.adaptr.safetensors"):
            assert adaptr("convert", source, "-o", out, "--json").refused == (2, "OutputExists")
    assert adaptr("stack", kit / "a.safetensors", "-o", run / "x.safetensors", "--json").refused == (2, "OutputExists")
    assert adaptr("compose", kit / "a.safetensors", "-o", run, "--json").refused == (2, "OutputExists")
    assert tree(run) == before


def test_an_adaptr_file_is_not_put_beside_one_of_another_name(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]
) -> None:
    (tmp_path / "d").mkdir()
    shutil.copyfile(kit / "a.safetensors", tmp_path / "d/mine.adaptr.safetensors")
    assert adaptr("convert", kit / "style", "-o", tmp_path / "d", "--json").refused == (2, "OutputExists")
    assert adaptr("convert", kit / "style", "-o", tmp_path / "d/b.adaptr.safetensors", "-q").code == 0, "named so"


@pytest.mark.parametrize("verb", ["inspect", "convert", "merge", "diff", "push", "tag", "log", "compose"])
def test_a_folder_with_two_adapters_is_refused_by_both_names(
    kit: Path, tmp_path: Path, adaptr: Callable[..., Ran], verb: str
) -> None:
    run = shutil.copytree(kit / "style", tmp_path / "run")
    shutil.copyfile(kit / "a.safetensors", run / "adapter.adaptr.safetensors")
    out = tmp_path / "out"
    words = {
        "inspect": (run,), "convert": (run, "-o", out), "merge": (kit / "base", run, "-o", out),
        "diff": (run, kit / "a.safetensors"), "push": (run, f"file://{tmp_path}/layout#x"), "tag": (run, "mine"),
        "log": (run,), "compose": (run, kit / "a.safetensors", "-o", out),
    }  # fmt: skip
    ran = adaptr(verb, *words[verb])
    assert ran.code == 3
    assert "`adapter.adaptr.safetensors`" in ran.err
    assert "`adapter_model.safetensors`" in ran.err
    assert not out.exists()


def test_a_retrained_folder_is_read_as_it_is_now(kit: Path, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    run = shutil.copytree(kit / "style", tmp_path / "run")
    before = adaptr("inspect", run, "--json").json["file_digest"]
    assert adaptr("convert", run, "-o", run).code == 2
    api.convert(kit / "a.safetensors", tmp_path / "newer", "peft")
    shutil.copytree(tmp_path / "newer", run, dirs_exist_ok=True)
    assert adaptr("inspect", run, "--json").json["file_digest"] != before


# ---------------------------------------------------------------- strangers, and the record


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


# ---------------------------------------------------------------- Python


def test_a_file_that_is_still_read_is_not_written(kit: Path, tmp_path: Path) -> None:
    from adaptr.errors import OutputExists

    file = tmp_path / "a.safetensors"
    shutil.copyfile(kit / "a.safetensors", file)
    lazy = api.load(file)
    for one in (lazy, 0.5 * lazy + 0.5 * api.load(kit / "b.safetensors")):
        with pytest.raises(OutputExists, match="is `"):
            api.save(one, file, force=True)
    api.save(lazy.replace(name="new", tensors=dict(lazy.tensors)), file, force=True)
    assert api.load(file).name == "new"


def test_adapters_that_were_loaded_are_inputs_too(kit: Path, tmp_path: Path) -> None:
    from adaptr.errors import OutputExists

    style = shutil.copytree(kit / "style", tmp_path / "style")
    before = tree(style)
    for out in (style, style / "merged", tmp_path):
        with pytest.raises(OutputExists):
            api.merge(kit / "base", [api.load(style, kit / "base")], out, force=True)
    with pytest.raises(OutputExists):
        api.compose([api.load(style), kit / "a.safetensors"], out=style / "x.safetensors", force=True)
    assert tree(style) == before
