"""SpIEL's choice of places against a form of it in plain Python."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
from adaptr.errors import BadConfig
from adaptr.testing import Driver, bits_equal

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))


def fitted(session: Any, steps: int) -> None:
    batches = [{"input": X[:3]}, {"input": X[3:]}]
    Driver(session, batches, steps, lambda output, batch: output.square().mean()).fit()


class Spy:
    """What the method sees after each step, and the places it had before and has then."""

    def __init__(self, session: Any) -> None:
        self.session, self.seen = session, list[tuple[Tensor, Tensor, list[bool], list[bool]]]()
        self.after, session.after_step = session.after_step, self.step

    def step(self) -> None:
        D, key = self.session.states["0"]["D"], "0:D.chosen"
        before = self.session.memory[key].flatten().tolist()
        value, grad = D.detach().clone().flatten(), D.grad.clone().flatten()
        self.after()
        self.seen.append((value, grad, before, self.session.memory[key].flatten().tolist()))


def naive(seen: list[tuple[Tensor, Tensor, list[bool], list[bool]]], every: int, over: int, rate: float) -> list[Any]:
    """The places after each step."""
    places = {i for i, chosen in enumerate(seen[0][2]) if chosen}
    sums: dict[int, float] = {}
    found = []
    for step, (value, grad, _, _) in enumerate(seen, 1):
        at, g = step % every, grad.tolist()
        if at == 1:
            sums = {i: g[i] for i in sorted(range(len(g)), key=lambda i: -abs(g[i]))[: len(places)]}
        elif at <= over and at:
            sums = {i: total + g[i] for i, total in sums.items()}
        if at == over:
            count = int((1.0 if step == over else rate) * len(places))
            leaving = sorted(places, key=lambda i: abs(float(value[i])))[:count]
            free = [i for i in sums if i not in places or i in leaving]
            comes = sorted(free, key=lambda i: -abs(sums[i]))[:count]
            new = [i for i in comes if i not in places]
            spare = [i for i in leaving if i not in comes]
            places = (places - set(spare[: len(new)])) | set(new)
        found.append(sorted(places))
    return found


def test_places_are_exchanged_as_the_paper_has_it() -> None:
    base = model().train()
    adapter = adaptr.create(base, "spiel", ["0"], share=0.25, every=4, over=2, rate=0.4)
    with adaptr.train(base, adapter) as session:
        session.prepare()
        spy = Spy(session)
        fitted(session, 11)
    has = [[i for i, chosen in enumerate(after) if chosen] for _, _, _, after in spy.seen]
    assert has == naive(spy.seen, 4, 2, 0.4)
    assert len({tuple(one) for one in has}) == 4, "at the start, and after steps 2, 6 and 10"
    assert all(len(one) == 12 for one in has)


def test_what_is_not_chosen_stays_as_it_was_and_the_file_has_the_rest() -> None:
    base = model().train()
    before = base[0].weight.detach().clone()
    with adaptr.train(base, adaptr.create(base, "spiel", ["0"], share=0.25, every=4, over=2)) as session:
        fitted(session, 7)
        chosen = session.memory["0:D.chosen"]
        D = session.states["0"]["D"].detach().clone()
        finished = session.finish()
    assert not bool(D[~chosen].any())
    assert 0 < finished.targets["0"].config["n"] <= 12
    with adaptr.attach(base, finished, merged=True):
        assert bits_equal(base[0].weight.detach(), before + D)


def test_the_rate_falls_to_zero() -> None:
    method: Any = adaptr.plugins.method("spiel")
    cfg = method.config({"steps": 100})
    assert [method._part(cfg, step) for step in (5, 25, 45, 125)] == pytest.approx([1.0, 0.15, 0.11, 0.0])


@pytest.mark.parametrize("wrong", [{"every": 5, "over": 5}, {"over": 0}, {"rate": 1.5}, {"share": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        adaptr.create(model(), "spiel", ["0"], **wrong)
