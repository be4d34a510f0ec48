"""Registering: the header of each adapter is held against the model, however many like it there were before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr.errors import FormatError, HeaderTruncated, TargetMismatch, TargetNotFound, Unsupported
from adaptr.foreign.detect import is_adaptr
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
    with pytest.raises(Unsupported, match="linear layers alone"):
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
