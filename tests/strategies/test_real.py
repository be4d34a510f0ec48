"""Adapters of others that share a base, in every strategy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
from adaptr import strategies
from adaptr.changes.deltas import deltas
from adaptr.strategies.whole import Whole

SHARED = Path(os.environ.get("ADAPTR_SHARED", Path(__file__).resolve().parents[2].parent / "shared")) / "real"
PAIRS = {
    "gemma3": ("peft-lora-gemma3-270m-stage1", "peft-lora-gemma3-270m"),
    "distilbert": ("peft-lora-distilbert-emotion", "peft-lora-distilbert-imdb"),
}
NAMES = sorted(n for n in strategies.names() if n not in {"regmean", "lorahub"})
#: Where no rank is given, these give dense deltas, of which a few targets of a real model are enough to look at.
OPTIONS: dict[str, dict[str, Any]] = {"della": {"density": 0.5}}

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the adapters of others are not at {SHARED}")


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_on_adapters_of_others(name: str, pair: str, tmp_path: Path) -> None:
    inputs = [(SHARED / folder, 0.5) for folder in PAIRS[pair]]
    strategy = strategies.get(name)
    if isinstance(strategy, Whole):
        with pytest.raises(adaptr.errors.Unsupported):
            adaptr.compose(inputs, name, replaced="first")
        return
    options = (
        {"rank": 8, "replaced": "first"}
        if strategy.rank_wanted or strategy.space == "elements"
        else {"replaced": "first"}
    )
    made = adaptr.compose(inputs, name, tmp_path / "x", **options, **OPTIONS.get(name, {}))
    assert made.adapter.method == "lora"
    back = adaptr.load(tmp_path / "x")
    first = adaptr.load(inputs[0][0])
    assert set(back.targets) == set(first.targets)
    found = deltas(back)
    assert all(bool(found[path].dense().isfinite().all()) for path in list(found)[:4])
    if name in {"linear", "cat"}:
        one, two = (deltas(adaptr.load(source)) for source, _ in inputs)
        for path in list(found)[:4]:
            want = (one[path].dense(torch.float64) + two[path].dense(torch.float64)) / 2
            torch.testing.assert_close(found[path].dense(torch.float64), want, rtol=1e-5, atol=1e-7)


def test_heads_of_several_parents_are_a_choice() -> None:
    emotion, imdb = (SHARED / folder for folder in PAIRS["distilbert"])
    with pytest.raises(adaptr.errors.UsageError, match="replaced="):
        adaptr.compose([emotion, imdb])
    kept = adaptr.compose([emotion, imdb], replaced="first").report.replaced
    assert "classifier.weight" in kept
    with pytest.raises(adaptr.errors.ShapeError, match="shapes"):  # six emotions and two sentiments have no average
        adaptr.compose([emotion, imdb], replaced="average")
