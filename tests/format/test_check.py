"""Tensors and configurations that a file's targets can't have are refused before anything is computed of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import FieldInvalid

#: Methods whose targets say their own sizes, and the fields.
SIZED = [(name, field) for name in plugins.names() for field in plugins.method(name).sizes]
#: Methods with a tensor of whole numbers, and its name.
PLACED = [
    (name, param)
    for name in plugins.names()
    for param, one in plugins.method(name).params.items()
    if one.whole and not one.when
]


def made(method: str) -> adaptr.Adapter:
    return adaptr.create(tiny.model("llama"), method, **plugins.method(method).small)


def refused(adapter: adaptr.Adapter, file: Path, match: str) -> None:
    """By what writes it; what reads it asks the same."""
    with pytest.raises(FieldInvalid, match=match):
        adaptr.save(adapter, file)
    assert not file.exists()


@pytest.mark.parametrize("other", [1, -1])
@pytest.mark.parametrize(("method", "field"), SIZED)
def test_a_size_that_is_not_the_targets(method: str, field: str, other: int, tmp_path: Path) -> None:
    adapter = made(method)
    path, target = next(iter(adapter.targets.items()))
    config: dict[str, Any] = {**target.config, field: target.config[field] + other}
    if other < 0 and config[field] < 1:
        pytest.skip("no size is below one")
    targets = {**adapter.targets, path: dataclasses.replace(target, config=config)}
    refused(adapter.replace(targets=targets), tmp_path / "a.safetensors", field)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("method", ["lora", "vera", "ia3", "glora"])
def test_numbers_without_fractions_where_a_method_has_floats(method: str, dtype: torch.dtype, tmp_path: Path) -> None:
    adapter = made(method)
    key = next(key for key in adapter.tensors if not key.startswith(":"))
    tensors = {**adapter.tensors, key: adapter.tensors[key].to(dtype)}
    refused(adapter.replace(tensors=tensors), tmp_path / "a.safetensors", "F32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
@pytest.mark.parametrize(("method", "param"), PLACED)
def test_places_that_are_no_int64(method: str, param: str, dtype: torch.dtype, tmp_path: Path) -> None:
    adapter = made(method)
    key = next(key for key in adapter.tensors if key.endswith(f":{param}"))
    tensors = {**adapter.tensors, key: adapter.tensors[key].to(dtype)}
    refused(adapter.replace(tensors=tensors), tmp_path / "a.safetensors", "I64")


def test_a_file_in_which_a_size_was_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    adaptr.save(made("randlora"), file)
    raw = file.read_bytes()
    changed = raw.replace(b'cols\\":32', b'cols\\":16')
    assert changed != raw
    file.write_bytes(changed)
    with pytest.raises(FieldInvalid, match="`cols` is 16, wanted 32"):
        adaptr.load(file)


def test_each_method_that_copies_sizes_is_among_them() -> None:
    assert {"randlora", "shira", "fourierft", "waveft", "miss", "unilora", "vera", "tied-lora"} <= {n for n, _ in SIZED}
