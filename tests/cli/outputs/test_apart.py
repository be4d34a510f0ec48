"""Adapters stay apart: nothing is written into another's folder, and a folder with two is refused by both names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from cli.conftest import Ran
from cli.outputs.conftest import tree


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
