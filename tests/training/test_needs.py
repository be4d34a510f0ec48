"""The seven things that a method may want of training, one small method each, through transformers' trainer:
calibration, groups, penalties, several forwards, work after a step, phases, finishing. The trainer knows none of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.contract import Group, Phase
from adaptr.host import Session
from adaptr_plugins.delta.lora import LoRA
from brought import installed
from through_trainer import trainer

INPUTS = {"input_ids": torch.arange(14).reshape(2, 7) + 3, "labels": torch.arange(14).reshape(2, 7) + 3}
OTHERS = {key: value + 11 for key, value in INPUTS.items()}


class Looks(LoRA):
    """Looks at all the batches that it is given, and draws."""

    name = "looks"
    seen: list[float] = []

    def prepare(self, session: Session, data: Any) -> None:
        for run in data:
            loss, _ = run()
            loss.backward()
            self.seen.append(loss.item() + 0 * torch.rand(1).item())


class Faster(LoRA):
    """B learns sixteen times as fast as A, and is not decayed."""

    name = "faster"

    def groups(self, session: Session) -> list[Group]:
        named = session.named()
        parts = [[p for key, p in named.items() if key.endswith(f":{end}")] for end in "AB"]
        return [Group(parts[0]), Group(parts[1], rate=16.0, decay=0.0)]


class Small(LoRA):
    """Its tensors are kept small."""

    name = "small"

    def penalty(self, session: Session) -> Any:
        return 0.5 * sum(p.square().sum() for p in session.parameters())


class Consistent(LoRA):
    """Two forwards must say the same."""

    name = "consistent"

    def objective(self, session: Session, run: Any) -> Any:
        (loss, one), (_, two) = run(), run()
        return loss + (one.logits - two.logits.detach()).square().mean()


class Counts(LoRA):
    """Looks at its gradients after each step."""

    name = "counts"
    seen: list[float] = []

    def after_step(self, session: Session) -> None:
        self.seen.append(sum(float(p.grad.norm()) for p in session.parameters() if p.grad is not None))


class Twice(LoRA):
    """Trains, goes back to where it began, and trains again."""

    name = "twice"

    def phases(self, cfg: Any) -> tuple[Phase, ...]:
        return Phase("first", 1.0), Phase("second", 1.0)

    def begin(self, session: Session, phase: str) -> None:
        with torch.no_grad():
            for key, p in session.named().items():
                p.copy_(session.adapter.tensors[key])


class Halves(LoRA):
    """What is kept is half of what was trained."""

    name = "halves"

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        halved = {key: value / 2 if key.endswith(":B") else value for key, value in adapter.tensors.items()}
        return super().finish(session, adapter.replace(tensors=halved))


METHODS = (Looks, Faster, Small, Consistent, Counts, Twice, Halves)


@pytest.fixture(autouse=True)
def _methods(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Looks.seen, Counts.seen = [], []
    with installed(monkeypatch, *METHODS):
        yield


@contextlib.contextmanager
def training(method: str, folder: Path, batches: Any = (INPUTS,), dropout: float = 0.0, **fields: Any) -> Iterator[Any]:
    model = tiny.model("llama")
    adapter = adaptr.create(model, method, r=4, dropout=dropout)
    found = trainer(model, lambda it: adaptr.train(it, adapter), batches, folder, rate=1e-2, **fields)
    try:
        yield found
    finally:
        found.release()


def losses(found: Any) -> list[float]:
    return [one["loss"] for one in found.state.log_history if "loss" in one]


def norms(found: Any) -> list[float]:
    return [one["grad_norm"] for one in found.state.log_history if "loss" in one]


def test_calibration_sees_batches_and_changes_no_loss(tmp_path: Path) -> None:
    found = []
    for method in ("lora", "looks"):
        with training(method, tmp_path / method, (INPUTS, OTHERS), dropout=0.2, steps=4) as one:
            one.train()
            found.append(losses(one))
    assert found[0] == found[1]
    assert len(Looks.seen) == 2
    assert all(Looks.seen)


def test_calibration_is_once(tmp_path: Path) -> None:
    for at, until in ((None, 2), (tmp_path / "checkpoint-2", None)):
        with training("looks", tmp_path, (INPUTS, OTHERS), steps=4) as one:
            one.steps.until = until
            one.train(at)
    assert len(Looks.seen) == 2


def test_groups_have_rates_and_decay_of_their_own(tmp_path: Path) -> None:
    with training("faster", tmp_path, steps=2, decay=0.1) as one:
        one.train()
        one_rate, other = one.optimizer.param_groups
    assert other["initial_lr"] == pytest.approx(16 * one_rate["initial_lr"])
    assert (one_rate["weight_decay"], other["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize(("batch", "accumulate"), [((INPUTS,), 1), ((INPUTS, INPUTS), 2), ((INPUTS,) * 4, 4)])
def test_a_penalty_is_of_the_step_and_not_of_each_batch(tmp_path: Path, batch: Any, accumulate: int) -> None:
    with training("small", tmp_path, batch, steps=1, accumulate=accumulate, clip=0) as one:
        one.train()
        (norm,) = norms(one)
    model = tiny.model("llama")
    with adaptr.train(model.train(), adaptr.create(model, "small", r=4)) as session:
        (model(**INPUTS).loss + session.penalty()).backward()
        wanted = torch.stack([p.grad.norm() for p in session.parameters()]).norm().item()
    assert norm == pytest.approx(wanted, rel=1e-5)


def test_several_forwards_of_a_batch(tmp_path: Path) -> None:
    with training("consistent", tmp_path / "a", dropout=0.5, steps=2) as one:
        one.train()
        both = losses(one)
    with training("lora", tmp_path / "b", dropout=0.5, steps=2) as one:
        one.train()
        assert both != losses(one)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_work_after_a_step_is_once_a_step_with_gradients_there(tmp_path: Path, accumulate: int) -> None:
    with training("counts", tmp_path, (INPUTS, OTHERS), steps=3, accumulate=accumulate) as one:
        one.train()
        assert one.session.steps == 3
    assert len(Counts.seen) == 3
    assert all(Counts.seen)


def test_a_step_that_the_scaler_left_out_was_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16's scaler skips a step whose gradients overflowed; there is none on a CPU, so its word alone is said."""
    with training("counts", tmp_path, steps=3) as one:
        monkeypatch.setattr(type(one.accelerator), "optimizer_step_was_skipped", property(lambda self: True))
        one.train()
        assert one.session.steps == 0
    assert not Counts.seen


def test_a_phase_has_an_optimiser_and_a_schedule_of_its_own(tmp_path: Path) -> None:
    with training("twice", tmp_path, steps=8, warmup=0.25) as one:
        one.train()
        found = losses(one)
        rates = [point["learning_rate"] for point in one.state.log_history if "loss" in point]
        steps = {int(state["step"]) for state in one.optimizer.state_dict()["state"].values()}
    assert found[:4] == found[4:], "what begins anew goes the same way"
    assert rates[:4] == rates[4:]
    assert rates[0] == 0.0, "the rate rises in each phase"
    assert steps == {4}


@pytest.mark.parametrize("at", [3, 4, 5])
def test_a_phase_is_gone_on_with(tmp_path: Path, at: int) -> None:
    with training("twice", tmp_path / "whole", (INPUTS, OTHERS), steps=8, dropout=0.2) as one:
        one.train()
        whole = one.session.state()["tensors"]
    with training("twice", tmp_path, (INPUTS, OTHERS), steps=8, dropout=0.2) as one:
        one.steps.until = at
        one.train()
    with training("twice", tmp_path, (INPUTS, OTHERS), steps=8, dropout=0.2) as one:
        one.train(tmp_path / f"checkpoint-{at}")
        again = one.session.state()["tensors"]
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_finishing_makes_what_is_kept(base: Path, data: Path) -> None:
    fields: Any = {"steps": 2, "rate": 0.02, "config": {"r": 4}, "samples": 0}
    whole, half = (adaptr.fit(base, data, method=method, **fields).adapter for method in ("lora", "halves"))
    for key, value in whole.tensors.items():
        assert torch.equal(half.tensors[key], value / 2 if key.endswith(":B") else value)


def test_after_training_nothing_stays_on_the_model(tmp_path: Path) -> None:
    model = tiny.model("llama")
    before = {name: p.clone() for name, p in model.named_parameters()}
    flags, config = {n: p.requires_grad for n, p in model.named_parameters()}, model.config.to_dict()
    adapter = adaptr.create(model, "lora", r=4)
    one = trainer(model, lambda it: adaptr.train(it, adapter), (INPUTS,), tmp_path, steps=2, checkpointing=True)
    one.train()
    one.release()
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert model.config.to_dict() == config
    assert not model.is_activation_checkpointing
    assert not model.training
    assert "forward" not in model.__dict__
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())


def test_all_methods_here_are_methods() -> None:
    assert all(plugins.method(cls.name) for cls in METHODS)
