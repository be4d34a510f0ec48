"""Links in folders that are read: a cache's own are followed, those that lead elsewhere are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import checkpoints as c
from adaptr import api
from adaptr.errors import InputError
from adaptr.format import write

REVISION = "a" * 40


def hub(folder: Path, files: Path, name: str = "models--org--name") -> Path:
    """`files` as the Hub's cache has them."""
    snapshot, blobs = folder / name / "snapshots" / REVISION, folder / name / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(files.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (folder / name / "refs").mkdir()
    (folder / name / "refs/main").write_text(REVISION)
    return folder / name


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return c.saved("llama", tmp_path / "base")


@pytest.fixture
def style(base: Path, tmp_path: Path) -> Path:
    """A LoRA as a PEFT folder."""
    write(c.randomised(base), tmp_path / "a.safetensors")
    api.convert(tmp_path / "a.safetensors", tmp_path / "style", "peft", base=base)
    return tmp_path / "style"


def test_a_folder_of_the_cache_is_a_base_and_an_adapter(base: Path, style: Path, tmp_path: Path) -> None:
    cached, adapter = hub(tmp_path, base), hub(tmp_path, style, "models--org--style")
    api.merge(base, [style], tmp_path / "direct")
    api.merge(cached, [adapter], tmp_path / "out")
    assert c.digests(tmp_path / "out") == c.digests(tmp_path / "direct")
    assert api.verify(tmp_path / "out", cached, [adapter]).exact


@pytest.mark.parametrize("kind", [str, Path])
def test_it_is_one_for_names_and_promises_too(base: Path, style: Path, tmp_path: Path, kind: Callable) -> None:
    cached = kind(hub(tmp_path, base))
    api.convert(style, tmp_path / "b.safetensors", base=cached)
    api.convert(tmp_path / "b.safetensors", tmp_path / "again", "peft", base=cached)
    api.serve(style, tmp_path / "served", "vllm", base=cached)
    assert api.inspect(style, base=cached).targets
    assert (tmp_path / "served/adapter_config.json").is_file()


def test_the_revision_is_a_name(base: Path, tmp_path: Path, style: Path) -> None:
    cached = hub(tmp_path, base)
    (cached / "refs/main").write_text("../../base")
    with pytest.raises(InputError, match="which is not there"):
        api.merge(cached, [style], tmp_path / "out")


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "model.safetensors"])
def test_a_base_takes_nothing_from_elsewhere(base: Path, style: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    shutil.copy(base / name, secret) if (base / name).exists() else secret.write_text("mine")
    (base / name).unlink(missing_ok=True)
    (base / name).symlink_to(secret)
    with pytest.raises(InputError, match="leads out of its folder"):
        api.merge(base, [style], tmp_path / "out", any_base=True)
    assert not (tmp_path / "out").exists()


def test_nor_does_what_looks_like_a_cache(base: Path, style: Path, tmp_path: Path) -> None:
    cached = hub(tmp_path, base)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/secret").write_text("mine")
    (cached / "snapshots" / REVISION / "notes.txt").symlink_to("../../blobs/away/secret")
    (cached / "blobs/away").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        api.merge(cached, [style], tmp_path / "out", any_base=True)


def test_links_within_a_folder_and_links_to_folders_are_fine(base: Path, style: Path, tmp_path: Path) -> None:
    (base / "real.txt").write_text("x")
    (base / "also.txt").symlink_to("real.txt")
    (base / "data").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(base)
    api.merge(tmp_path / "alias", [style], tmp_path / "out", any_base=True)
    assert (tmp_path / "out/also.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["README.md", "tokenizer_config.json"])
def test_an_adapter_takes_nothing_along_from_elsewhere(base: Path, style: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(json.dumps({"mine": 1}))
    (style / name).unlink(missing_ok=True)
    (style / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="leads out of its folder"):
        api.merge(base, [style], tmp_path / "out")
