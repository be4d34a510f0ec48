"""Registering: the header of each adapter is held against the model, however many like it there were before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import adaptr
import tiny
from adaptr.errors import (
    FormatError,
    HeaderTruncated,
    ShapeError,
    TargetMismatch,
    TargetNotFound,
    TensorMissing,
    TensorUnexpected,
    UnknownMethod,
    Unsupported,
)
from adaptr.foreign.seen import is_adaptr
from adaptr.runtime.pool import fit
from adaptr.testing import shaken


@pytest.fixture
def pool() -> Any:
    """With three adapters of one structure."""
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        for i in range(3):
            pool.add(f"a{i}", shaken(adaptr.create(model, "lora", ["attn.q", "mlp.down"], r=2, seed=i)))
        yield pool


def like(model: Any, **changes: Any) -> adaptr.Adapter:
    """One more of them, with other fields at its first target."""
    made = shaken(adaptr.create(model, "lora", ["attn.q", "mlp.down"], r=2))
    path, target = next(iter(made.targets.items()))
    return made.replace(targets={**made.targets, path: dataclasses.replace(target, **changes)})


def test_a_bad_one_among_its_like_is_found(pool: Any) -> None:
    wide, moved = like(pool.model, shape=(48, 32)), "model.layers.7.self_attn.q_proj"
    away = like(pool.model, path=moved)
    away = away.replace(targets={t.path: t for t in away.targets.values()})
    with pytest.raises(TargetMismatch, match=r"48, 32"):
        pool.add("wide", wide)
    with pytest.raises(TargetNotFound, match=moved):
        pool.add("away", away)
    with pytest.raises(Unsupported, match="at linear layers and at outputs of modules alone"):
        pool.add("table", shaken(adaptr.create(pool.model, "lora", ["embed"], r=2)))
    with pytest.raises(Unsupported):
        pool.add("prompt", shaken(adaptr.create(pool.model, "prompt")))
    assert list(pool) == ["a0", "a1", "a2"]


def test_a_place_is_looked_for_once(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    real = fit.places.match
    monkeypatch.setattr(fit.places, "match", lambda model, target: looked.append(target.path) or real(model, target))
    pool.add("more", shaken(adaptr.create(pool.model, "dora", ["attn.q"], r=7)))
    assert not looked
    pool.add("other", shaken(adaptr.create(pool.model, "lora", ["attn.k"], r=7)))
    assert len(looked) == 2


def test_a_file_that_begins_as_ours_and_is_none_is_refused(pool: Any, tmp_path: Path) -> None:
    good, cut = tmp_path / "good.safetensors", tmp_path / "cut.safetensors"
    adaptr.save(shaken(adaptr.create(pool.model, "lora", ["attn.q"], r=2)), good)
    cut.write_bytes(good.read_bytes()[:200])
    assert is_adaptr(good)
    with pytest.raises(HeaderTruncated):
        pool.add("cut", cut)
    cut.write_bytes(good.read_bytes().replace(b'"data_offsets"', b'"data_offsetz"', 1))
    with pytest.raises(FormatError):
        pool.add("cut", cut)
    assert "cut" not in pool


def said(folder: Path, method: str) -> str:
    """The manifest of the first file, of another method."""
    with safe_open(folder / "a0.safetensors", "pt") as file:
        manifest = json.loads(file.metadata()["adaptr"])
    manifest["method"]["name"] = method
    return json.dumps(manifest, separators=(",", ":"), sort_keys=True)


@pytest.fixture
def filed(pool: Any, tmp_path: Path) -> Path:
    """A folder of five files of one structure, all registered."""
    for i in range(5):
        made = shaken(adaptr.create(pool.model, "lora", ["attn.q", "mlp.down"], r=2, seed=i)).replace(name=f"n{i}")
        adaptr.save(made, tmp_path / f"a{i}.safetensors")
        pool.add(f"f{i}", tmp_path / f"a{i}.safetensors")
    return tmp_path


BAD = {
    "wide": (ShapeError, "mlp.down_proj` has shape"),
    "missing": (TensorMissing, "mlp.down_proj:B` is missing"),
    "extra": (TensorUnexpected, "mlp.down_proj:C` is no tensor of `lora`"),
    "stray": (TensorUnexpected, "belongs to no target"),
    "unknown": (UnknownMethod, "there is no method `nosuch`"),
    "prompt": (FormatError, "`prompt` does not work on"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_among_its_like_is_found(pool: Any, filed: Path, how: str) -> None:
    with safe_open(filed / "a0.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
    key = next(key for key in sorted(tensors) if key.endswith("mlp.down_proj:B"))
    if how == "wide":
        tensors[key] = tensors[key].repeat(2, 1)
    elif how == "missing":
        del tensors[key]
    elif how in {"extra", "stray"}:
        tensors[key[:-1] + "C" if how == "extra" else "model.layers.9.mlp.down_proj:B"] = tensors[key].clone()
    method = {"unknown": "nosuch", "prompt": "prompt"}.get(how, "lora")
    save_file(tensors, filed / "bad.safetensors", {"adaptr": said(filed, method)})
    error, message = BAD[how]
    with pytest.raises(error, match=message):
        pool.add("bad", filed / "bad.safetensors")
    assert "bad" not in pool
    pool.add("good", filed / "a0.safetensors")


def test_files_of_one_structure_for_another_model_are_refused(pool: Any, filed: Path) -> None:
    """What was read of the same structure is of files alone: each pool holds it against its own model."""
    small = tiny.model("gpt2")
    with adaptr.pool(small) as other, pytest.raises(TargetNotFound, match="the base has no"):
        other.add("f0", filed / "a0.safetensors")


def test_registered_ones_keep_nothing_in_common(pool: Any, filed: Path) -> None:
    first, second = (adaptr.load(filed / f"a{i}.safetensors") for i in (0, 1))
    path = next(iter(first.targets))
    first.targets[path].config["r"] = 7  # type: ignore[index]
    assert second.targets[path].config["r"] == adaptr.load(filed / "a0.safetensors").targets[path].config["r"] == 2
