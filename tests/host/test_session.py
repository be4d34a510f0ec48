"""A session of a method that prepares, has phases, masks what learns, and leaves something out at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import Insert, Param, errors, plugins
from adaptr.contract import Group, Phase
from adaptr.contract.lifecycle import phase_at
from adaptr.testing import Driver, Laws, shaken


@dataclass(frozen=True)
class Config:
    twice: bool = False
    whole: bool = True
    finished: bool = False


class Staged(Insert[Config]):
    """A gain g, prepared from data; a direction v that is trained by a helper w, then where w ended alone."""

    name = "staged"
    params = {
        "v": Param("d"),
        "g": Param("d", init="ones", trains=False),
        "w": Param("d", unless="finished"),
    }
    targets = ("ffn_out",)

    def forward(self, h: Any, x: Any, p: Any, cfg: Config) -> Any:
        v = p["v"] if cfg.finished else p["v"] + p["w"]
        return h + p["g"] * v

    def prepare(self, session: Any, data: Any) -> None:
        size = sum(float(run()[0].detach()) for run in data)
        for path in session.adapter.targets:
            session.put(path, "g", torch.full((tiny.WIDTH,), 1 + abs(size)))

    def phases(self, cfg: Config) -> tuple[Phase, ...]:
        return Phase("wide", 1.0), Phase("narrow", 2.0)

    def begin(self, session: Any, phase: str) -> None:
        for key, p in session.named().items():
            session.mask(key, torch.arange(tiny.WIDTH) < 3)
            with torch.no_grad():
                p.mul_(0.5)

    def groups(self, session: Any) -> list[Group]:
        found = session.named()
        slow = [p for key, p in found.items() if key.endswith(":w")]
        fast = [p for key, p in found.items() if key.endswith(":v")]
        every = session.method.config(session.adapter.config).whole
        return [Group(slow), Group(fast, rate=4.0, decay=0.0)] if every else [Group(slow)]

    def objective(self, session: Any, run: Any) -> Any:
        loss = run()[0]
        return (loss + run()[0]) / 2 if session.method.config(session.adapter.config).twice else loss

    def finish(self, session: Any, adapter: Any) -> Any:
        own = {f"{path}:v": adapter.at(path)["v"] + adapter.at(path)["w"] for path in adapter.targets}
        return super().finish(session, adapter.replace(tensors={**adapter.tensors, **own}))


class _Point:
    value = "here:Staged"

    def load(self) -> type[Staged]:
        return Staged


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    found = {"staged": _Point()}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.methods" else {})
    yield
    plugins.method.cache_clear()
    plugins.manager.cache_clear()


class TestStaged(Laws):
    method = "staged"
    steps = 6

    test_law_11_importing_it_does_not_import_torch = None  # it is of this file


def loss(output: Any, batch: Any) -> torch.Tensor:
    found: torch.Tensor = output.logits.log_softmax(-1)[..., 0].mean().neg()
    return found


def trained(steps: int, **config: Any) -> tuple[Any, Any]:
    model = tiny.model("llama").train()
    session = adaptr.train(model, adaptr.create(model, "staged", **config))
    driver = Driver(session, [tiny.inputs("llama")], 6, loss)
    driver.fit(steps)
    return session, driver


def test_it_is_prepared_once_from_data() -> None:
    session, driver = trained(1)
    gain = next(iter(session.states.values()))["g"][0].item()
    assert gain > 2
    driver.fit(2)
    assert next(iter(session.states.values()))["g"][0].item() == gain
    assert session.adapted().tensors["model.layers.0.mlp:g"][0].item() == gain


def test_a_phase_has_an_optimiser_of_its_own_and_its_share_of_the_steps() -> None:
    session, driver = trained(2)
    assert session.phase == 0
    first = driver.optimiser
    driver.fit(3)
    assert session.phase == 1
    assert driver.optimiser is not first
    assert driver.optimiser.param_groups[1]["lr"] == 4 * driver.optimiser.param_groups[0]["lr"]
    assert [phase_at(session.phases(), step / 6) for step in range(6)] == [0, 0, 1, 1, 1, 1]


def test_what_is_outside_of_a_mask_keeps_its_values_whatever_decays() -> None:
    session, driver = trained(3)
    before = session.adapted().tensors["model.layers.1.mlp:w"]
    for group in driver.optimiser.param_groups:
        group["weight_decay"] = 0.9
    driver.fit(6)
    after = session.adapted().tensors["model.layers.1.mlp:w"]
    assert torch.equal(after[3:], before[3:])
    assert not torch.equal(after[:3], before[:3])
    assert not session.named()["model.layers.1.mlp:w"].grad[3:].any()


def test_what_is_finished_is_less_and_does_the_same() -> None:
    session, _ = trained(6)
    model = session.model.eval()
    with torch.no_grad():
        wanted = model(**tiny.inputs("llama")).logits
    finished = session.finish()
    session.detach()
    assert not any(key.endswith(":w") for key in finished.tensors)
    assert finished.config["finished"]
    with adaptr.attach(model, finished), torch.no_grad():
        torch.testing.assert_close(model(**tiny.inputs("llama")).logits, wanted)


def test_training_may_go_on_from_a_file(tmp_path: Any) -> None:
    """Steps, phase, whether it was prepared and the masks are in an adapter that is not finished."""
    session, _ = trained(3)
    adaptr.save(session.adapted(), tmp_path / "a.safetensors")
    model = tiny.model("llama").train()
    with adaptr.train(model, adaptr.load(tmp_path / "a.safetensors")) as again:
        assert (again.steps, again.phase, again.prepared) == (3, 1, True)
        driver = Driver(again, [tiny.inputs("llama")], 6, loss)
        before = again.adapted().tensors["model.layers.0.mlp:w"]
        driver.fit()
        assert torch.equal(again.adapted().tensors["model.layers.0.mlp:w"][3:], before[3:])
        assert not torch.equal(again.adapted().tensors["model.layers.0.mlp:w"], before)


def test_an_objective_may_run_the_batch_more_than_once() -> None:
    seen = []
    session, driver = trained(0, twice=True)
    session.model.register_forward_hook(lambda *_: seen.append(1))
    driver.fit(2)
    assert len(seen) == 2 * 2


def test_groups_that_leave_something_out_are_refused() -> None:
    model = tiny.model("llama")
    with (
        adaptr.train(model, adaptr.create(model, "staged", whole=False)) as session,
        pytest.raises(errors.UsageError, match=r"groups of `staged`.*every trained tensor once.*layers\.0\.mlp:v"),
    ):
        session.groups()


def test_a_state_of_another_adapter_is_refused() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora")) as session:
        state = session.state()
    with (
        adaptr.train(model, adaptr.create(model, "staged")) as other,
        pytest.raises(errors.UsageError, match=r"state is of another adapter: it has no .*mlp"),
    ):
        other.load_state(state)


def test_the_base_below_an_adapter_can_be_read_while_it_is_attached() -> None:
    model = tiny.model("llama")
    W = model.model.layers[0].self_attn.q_proj.weight.detach().clone()
    with adaptr.train(model, adaptr.create(model, "lora")) as session:
        assert torch.equal(session.base("model.layers.0.self_attn.q_proj").weight, W)


def test_parts_of_a_composite_keep_their_own_course() -> None:
    """A part's phases, objective and end are its own, beside a part that has none."""
    model = tiny.model("llama").train()
    children = {"a": adaptr.create(model, "staged", twice=True), "b": adaptr.create(model, "lora", r=2)}
    stacked = adaptr.create(model, "stack", children=children)
    with adaptr.train(model, stacked) as session:
        assert [phase.share for phase in session.phases()] == pytest.approx([1 / 3, 2 / 3])
        session.begin(0)
        assert session.children["a"].phase == 0
        Driver(session, [tiny.inputs("llama")], 6, loss).fit()
        assert session.children["a"].phase == 1
        finished = session.finish()
    assert not any(".w" in key for key in finished.tensors)
    assert any(".A" in key for key in finished.tensors)


def test_a_phase_that_is_at_work_does_not_begin_again() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, shaken(adaptr.create(model, "staged"))) as session:
        before = {key: p.detach().clone() for key, p in session.named().items()}
        session.begin(0)
        assert all(torch.equal(p, before[key]) for key, p in session.named().items())
        for _ in range(2):
            session.begin(1)
        assert all(torch.equal(p, before[key] / 2) for key, p in session.named().items())


@pytest.mark.parametrize("first", [0, 1])
def test_flags_come_back_in_whatever_order_sessions_end(first: int) -> None:
    model = tiny.model("llama")
    model.lm_head.weight.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    sessions = [adaptr.train(model, adaptr.create(model, "lora", name=name)) for name in "ab"]
    sessions[first].detach()
    assert not any(p.requires_grad for name, p in model.named_parameters() if name in before)
    sessions[1 - first].detach()
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
