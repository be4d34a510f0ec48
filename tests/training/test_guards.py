"""The usual ways in which a training fails are noticed, each with one clear line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import adaptr
from adaptr.errors import BadRecord, Diverged
from adaptr.training.guards import Guard, said


def looked(*losses: float) -> None:
    guard = Guard()
    for step, loss in enumerate(losses, 1):
        guard.look(step, loss, 1.0, 1e-3)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number(loss: float) -> None:
    with pytest.raises(Diverged, match=r"the loss at step 3 is .*rate, 0\.001: try a tenth"):
        looked(2.0, 1.0, loss)


def test_gradients_that_overflow() -> None:
    with pytest.raises(Diverged, match="the norm of the gradient at step 7"):
        Guard().look(7, 1.0, math.inf, 1e-3)


def test_fp16_is_a_cause_only_where_it_is_used() -> None:
    with pytest.raises(Diverged, match="bf16"):
        Guard(half=True).look(7, math.nan, math.inf, 1e-3)
    with pytest.raises(Diverged) as caught:
        Guard().look(7, math.nan, math.inf, 1e-3)
    assert "bf16" not in str(caught.value)


@pytest.mark.parametrize(("save", "said"), [(1, True), (0, False)])
def test_a_checkpoint_is_told_of_where_there_is_one(
    base: Path, data: Path, tmp_path: Path, save: int, said: bool
) -> None:
    with pytest.raises(Diverged) as caught:
        adaptr.fit(base, data, tmp_path / "a.safetensors", steps=8, rate=1e30, clip=0, save_every=save, samples=0)
    assert ("is from before" in str(caught.value)) == said


def test_a_loss_that_rises_without_end() -> None:
    with pytest.raises(Diverged, match="rises without end: 2 at the start"):
        looked(*[2.0] * 10, *(2.0 + 0.3 * i for i in range(40)))


@pytest.mark.parametrize(
    "losses",
    [
        [3.0 - 0.05 * i for i in range(50)],
        [2.0 + math.sin(i) for i in range(200)],
        [*[2.0] * 5, *(8.0 - 0.1 * i for i in range(60))],
        [0.001 * (1 + i % 7) for i in range(100)],
    ],
)
def test_a_loss_that_falls_swings_or_comes_back_is_none(losses: list[float]) -> None:
    looked(*losses)


def test_a_rate_that_is_far_too_high_stops_the_training_and_keeps_the_checkpoint(
    base: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.safetensors"
    with pytest.raises(Diverged, match="1e\\+30"):
        adaptr.fit(base, data, out, steps=8, rate=1e30, clip=0, save_every=1, samples=0, schedule="constant")
    assert not out.exists()


@pytest.mark.parametrize(
    ("before", "after", "moved", "words"),
    [
        (2.0, 2.0, 1.0, "nothing was learned: the loss is as it was"),
        (2.0, 1.0, 0.0, "nothing was learned: no tensor changed"),
        (0.001, 0.0005, 1.0, "the base solves this data already"),
        (2.0, 2.5, 1.0, "worse than the base"),
    ],
)
def test_what_is_said_of_a_training_that_went_through(before: float, after: float, moved: float, words: str) -> None:
    assert any(words in one for one in said({"loss": before}, {"loss": after}, {"a": moved}))


def test_nothing_is_said_of_one_that_learned() -> None:
    assert said({"loss": 2.0}, {"loss": 1.0}, {"a": 1.0}) == []


def test_what_is_cut_is_counted_and_refused_where_it_must_not_be(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": "w1 ", "completion": "w2 " * (2 + 20 * (i == 3))} for i in range(8)]
    data.write_text("\n".join(map(json.dumps, rows)))
    fields: dict[str, Any] = {"steps": 1, "rate": 0.01, "config": {"r": 4}, "samples": 0, "length": 8}
    report = adaptr.fit(base, data, **fields)
    assert any("1 of 8 records are cut at 8 tokens" in note for note in report.notes)
    with pytest.raises(BadRecord, match=r"rows\.jsonl:4: "):
        adaptr.fit(base, data, strict=True, **fields)
