"""FISH Mask and diff pruning against naive forms of what their papers say."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import InputError, UsageError
from adaptr.testing import Driver, assert_close


class Classifier(nn.Module):
    """Two layers and a norm, three classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.norm, self.two = nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, y: Any = None) -> Any:
        logits = self.two(self.norm(self.one(x)).tanh())
        loss = None if y is None else nn.functional.cross_entropy(logits, y)
        return types.SimpleNamespace(logits=logits, loss=loss)


X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2, 1, 1, 0, 2])
ALL = ["one", "two", "norm"]


def loss(output: Any, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(output.logits, batch["y"])


def driver(session: Any, rows: int, steps: int = 4) -> Driver:
    batches = [{"x": X[i : i + rows], "y": Y[i : i + rows]} for i in range(0, len(X), rows)]
    return Driver(session, batches, steps, loss)


def fisher(kind: str) -> dict[str, torch.Tensor]:
    """Of each weight, one example and one class at a time."""
    model = Classifier()
    found = {name: torch.zeros(model.get_submodule(name).weight.shape) for name in ALL}
    for x, y in zip(X, Y, strict=True):
        p = model(x[None]).logits.softmax(-1)[0].detach()
        for c in range(3) if kind == "expect" else [int(y)]:
            model.zero_grad()
            model(x[None]).logits.log_softmax(-1)[0, c].backward()
            for name in ALL:
                weight = float(p[c]) if kind == "expect" else 1.0
                found[name] += weight * model.get_submodule(name).weight.grad ** 2
    return found


@pytest.mark.parametrize(("kind", "rows"), [("expect", 3), ("label", 1)])
def test_what_learns_is_where_the_fisher_information_is_largest(kind: str, rows: int) -> None:
    model = Classifier().train()
    adapter = adaptr.create(model, "fish-mask", ALL, share=0.2, fisher=kind)
    with adaptr.train(model, adapter) as session:
        driver(session, rows).fit()
        masks = {key.partition(":")[0]: mask for key, mask in session.memory.items()}
        finished = session.finish()
    wanted = fisher(kind)
    count = int(0.2 * sum(p.numel() for p in Classifier().parameters()))
    every = torch.cat([wanted[path].flatten() for path in adapter.targets]).sort(descending=True).values
    assert sum(int(mask.sum()) for mask in masks.values()) == count
    for path, mask in masks.items():
        assert torch.equal(mask, wanted[path] >= every[count - 1])
    assert sum(t.config["n"] for t in finished.targets.values()) == count
    assert all(len(finished.tensors[f"{path}:v"]) == t.config["n"] for path, t in finished.targets.items())


def test_squares_of_means_are_not_taken_for_means_of_squares() -> None:
    model = Classifier()
    adapter = adaptr.create(model, "fish-mask", ALL, share=0.2, fisher="label")
    with adaptr.train(model, adapter) as session, pytest.raises(UsageError, match="one by one"):
        driver(session, 3).fit()


def test_gates_are_hard_concrete() -> None:
    """z of the paper, with l = -1.5 and r = 1.5, and the expected number of open gates."""
    from adaptr_plugins.select.diff_pruning import gate

    a = torch.tensor([-9.0, -1.0, 0.0, 0.5, 9.0], dtype=torch.float64)
    stretched = torch.sigmoid(a) * 3.0 - 1.5
    assert_close(gate(a, False), stretched.clamp(0, 1))
    torch.manual_seed(0)
    many = gate(torch.full((200_000,), 0.7), True)
    assert float((many > 0).float().mean()) == pytest.approx(float(torch.tensor(0.7).sigmoid()), abs=0.01)


@pytest.mark.parametrize("structured", [True, False])
def test_gates_are_drawn_once_and_what_is_left_is_trained_on(structured: bool) -> None:
    model = Classifier().train()
    adapter = adaptr.create(model, "diff-pruning", ALL, share=0.1, structured=structured)
    assert ("one:g" in adapter.tensors) == structured
    torch.manual_seed(0)
    with adaptr.train(model, adapter) as session:
        driver(session, 3, 8).fit(4)
        session.begin(1)
        D = {path: session.states[path]["D"].detach().clone() for path in adapter.targets}
        once, again = (model(X).logits.detach() for _ in range(2))
        assert torch.equal(once, again), "a gate is still drawn"
        total = sum(d.numel() for d in D.values())
        assert sum(int(mask.sum()) for mask in session.memory.values()) == round(0.1 * total)
        finished = session.finish()
    values = torch.cat([d.abs().flatten() for d in D.values()]).sort(descending=True).values
    kept = torch.cat([finished.tensors[key] for key in finished.tensors if key.endswith(":v")])
    assert_close(kept.abs().sort(descending=True).values, values[: len(kept)])
    assert {key.partition(":")[2] for key in finished.tensors} == {"v", "i"}


def test_a_finished_one_is_small_and_its_places_are_looked_at(tmp_path: Path) -> None:
    method: Any = plugins.method("fish-mask")
    config = method.config({"n": 2, "sizes": [3, 4], "finished": True})
    with pytest.raises(InputError, match="`fish-mask`: the places"):
        method.delta({"i": torch.tensor([5, 5]), "v": torch.ones(2)}, config)
    found = method.delta({"i": torch.tensor([1, 11]), "v": torch.tensor([2.0, 3.0])}, config)
    assert found.dense().flatten().nonzero().flatten().tolist() == [1, 11]


@pytest.mark.parametrize("reset", [False, True])
def test_whole_rows_learn_and_rows_are_what_is_kept(reset: bool) -> None:
    model = Classifier().train()
    adapter = adaptr.create(model, "far", ["one"], share=0.4, priming=0.5, reset=reset)
    with adaptr.train(model, adapter) as session:
        driver(session, 3, 6).fit(3)
        D, b = (session.states["one"][name].detach().clone() for name in ("D", "b"))
        session.begin(1)
        primed = session.states["one"]["D"].detach().clone()
        driver(session, 3, 6).fit()
        finished = session.finish()
        with torch.no_grad():
            wanted = model(X).logits
    rows = (D.abs().sum(1) + b.abs()).sort(descending=True).indices[:2].sort().values
    assert torch.equal(finished.tensors["one:i"], rows)
    assert finished.tensors["one:v"].shape == (2, 4)
    assert torch.equal(primed[rows], torch.zeros(2, 4) if reset else D[rows])
    assert int(primed.any(1).sum()) == (0 if reset else 2)
    with adaptr.attach(model, finished), torch.no_grad():
        assert_close(model(X).logits, wanted)


@pytest.mark.parametrize("method", ["diff-pruning", "far", "fish-mask", "lt-sft"])
def test_a_finished_adapter_begins_a_training_of_its_own(method: str) -> None:
    """It has one phase, whatever the last of its first training was."""
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, method, ["mlp.up"], **plugins.method(method).small)) as session:
        session.prepare()
        last = len(session.phases()) - 1
        session.begin(last)
        adapter = session.finish()
    with adaptr.train(model, adapter) as session:
        assert session.phases()[session.phase].name == "train"
