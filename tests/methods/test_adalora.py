"""AdaLoRA's schedule against PEFT's allocator, step by step on the same values; its export to plain LoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import BadConfig
from adaptr.testing import Laws, assert_close

SCHEDULE = {"target_r": 2, "tinit": 2, "tfinal": 4}
TARGETS = ["q_proj", "down_proj"]


def loss(model: Any) -> torch.Tensor:
    return model(**tiny.inputs("llama")).logits.float().log_softmax(-1)[..., 5].mean().neg()


@pytest.mark.filterwarnings("ignore")  # PEFT's own
def test_prunes_what_peft_prunes() -> None:
    peft = pytest.importorskip("peft")
    config = peft.AdaLoraConfig(init_r=4, deltaT=2, total_step=14, lora_alpha=16, target_modules=TARGETS, **SCHEDULE)
    theirs = peft.get_peft_model(tiny.model("llama"), config)
    model = tiny.model("llama")
    fresh = adaptr.create(model, "adalora", TARGETS, r=4, interval=2, steps=14, **SCHEDULE)
    modules = {path: theirs.get_submodule(f"base_model.model.{path}") for path in fresh.targets}
    generator = torch.Generator().manual_seed(0)
    start = {k: torch.randn(t.shape, generator=generator) * 0.3 for k, t in fresh.tensors.items()}
    with torch.no_grad():
        for path, module in modules.items():
            for name, slot in (("A", "lora_A"), ("B", "lora_B"), ("E", "lora_E")):
                getattr(module, slot)["default"].copy_(start[f"{path}:{name}"])
    kept = []
    with adaptr.train(model, fresh.replace(tensors=start)) as session:
        mine = torch.optim.SGD(session.parameters(), lr=0.5)
        other = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], lr=0.5)
        for step in range(1, 15):
            for optimiser, wrapped in ((mine, model), (other, theirs)):
                optimiser.zero_grad()
                loss(wrapped).backward()
                optimiser.step()
            session.after_step()
            theirs.base_model.update_and_allocate(step)
            for path, module in modules.items():
                assert_close(session.states[path]["E"], module.lora_E["default"])
            kept.append(sum(int((state["E"] != 0).sum()) for state in session.states.values()))
    n = len(modules)
    assert kept[0] == kept[1] == 4 * n
    assert kept[-5:] == [2 * n] * 5
    assert 2 * n < kept[5] < 4 * n


@pytest.mark.filterwarnings("ignore")  # PEFT's own
def test_penalty_is_pefts() -> None:
    peft = pytest.importorskip("peft")
    config = peft.AdaLoraConfig(init_r=4, total_step=9, target_modules=TARGETS, orth_reg_weight=0.3)
    theirs = peft.get_peft_model(tiny.model("llama"), config)
    model = tiny.model("llama")
    fresh = adaptr.create(model, "adalora", TARGETS, r=4, orthogonal=0.3)
    tensors = {}
    for path in fresh.targets:
        module = theirs.get_submodule(f"base_model.model.{path}")
        for name, slot in (("A", "lora_A"), ("B", "lora_B"), ("E", "lora_E")):
            tensors[f"{path}:{name}"] = getattr(module, slot)["default"].detach().clone()
    ids = tiny.inputs("llama")["input_ids"]
    with adaptr.train(model, fresh.replace(tensors=tensors)) as session:
        penalty = session.penalty()
        with_penalty = theirs.base_model(input_ids=ids, labels=ids).loss
        assert_close(penalty, with_penalty - model(input_ids=ids, labels=ids).loss, to=1e-5)
        penalty.backward()
        assert all(state["B"].grad is not None for state in session.states.values())


def test_a_pruned_adapter_is_plain_lora() -> None:
    generator = torch.Generator().manual_seed(0)
    A, B = torch.randn(4, 6, generator=generator), torch.randn(5, 4, generator=generator)
    E = torch.tensor([[0.5], [0.0], [-2.0], [0.0]])
    method: Any = plugins.method("adalora")
    op = method.delta({"A": A, "B": B, "E": E}, method.config({"r": 4, "begun": 12, "alpha": 16.0}))
    left = [0, 2]
    assert op.scale == pytest.approx(16 / 12, rel=1e-5)
    assert_close(op.dense(), op.scale * B[:, left] @ (E[left] * A[left]))
    assert op.low_rank() is op


@pytest.mark.parametrize("wrong", [{"tinit": 10}, {"tfinal": 10}, {"interval": 0}, {"tinit": -1}])
def test_a_schedule_without_room_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadConfig, match="nothing of `steps`=10 to prune in"):
        plugins.method("adalora").config({"steps": 10, **wrong})


def test_without_steps_nothing_is_pruned() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "adalora", TARGETS, r=4)) as session:
        loss(model).backward()
        session.after_step()
        assert session.steps == 1
        assert session.memory == {}


class TestSchedule(Laws):
    """All laws with a schedule at work, those of training above all: it needs nothing of its own from a trainer."""

    method = "adalora"
    config = {"r": 4, "target_r": 2, "steps": 6, "tfinal": 2}
    steps = 6
