"""What a method says of itself: its configuration, what it can, and the tensors that its formulas see."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import Composite, Delta, LowRank, Param, Row, View, plugins
from adaptr.adapter.tensors import Tensors, Wide
from adaptr.contract import Live
from adaptr.contract.settings import Nothing
from adaptr.errors import Unsupported


@dataclass(frozen=True)
class Config:
    r: int = 2


class Typed(Delta[Config]):
    name = "typed"
    params = {"A": Param("r in"), "B": Param("out r")}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        return LowRank(p["B"], p["A"])


class Derived(Typed):
    name = "derived"


class Old(Delta):
    """As methods were written before."""

    name = "old"
    params = {"A": Param("r in"), "B": Param("out r")}

    @dataclass(frozen=True)
    class Config:
        r: int = 3

    def delta(self, p: Mapping[str, torch.Tensor], cfg: Any) -> LowRank:
        return LowRank(p["B"], p["A"])


class Pair(Composite[Nothing]):
    """LoRA beside another method."""

    name = "pair"
    beside = "dora"

    def parts(self, cfg: Nothing) -> Mapping[str, tuple[str, Any, Mapping[str, Any]]]:
        return {"lora": ("lora", None, {}), "other": (self.beside, None, {})}


class Looking(Typed):
    """Looks at the weight on its way."""

    name = "looking"

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        return base


# ---------------------------------------------------------------- configurations


def test_the_configuration_is_what_the_family_is_given() -> None:
    assert Typed.Config is Config
    assert Typed().config({"r": 4}) == Config(4)


def test_a_subclass_has_its_parents_configuration() -> None:
    assert Derived.Config is Config


def test_a_nested_configuration_is_taken() -> None:
    assert Old().config({}).r == 3


def test_a_method_without_one_has_none() -> None:
    assert plugins.method("bitfit").Config is Nothing


# ---------------------------------------------------------------- what it can


def test_a_delta_has_an_operator_and_a_row() -> None:
    can = Typed().can
    assert (can.delta, can.adds, can.row, can.inverse, can.weighs) == (True,) * 5
    assert (can.factors, can.schedule, can.gates, can.parts, can.over) == (False,) * 5


def test_a_delta_that_looks_at_the_weight_has_none_of_its_own() -> None:
    can = Looking().can
    assert (can.delta, can.adds, can.row) == (False,) * 3
    assert can.inverse


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("lora", "adds delta weighs identity rowwise colwise inverse row factors learns"),
        ("bitfit", "adds identity rowwise inverse row learns"),
        ("dora", "weighs identity rowwise inverse portable row learns"),
        ("houlsby", "rowwise learns branch row"),
        ("arrow", "rowwise over needs gates"),
        ("lora-soups", "weighs rowwise learns over needs gates"),
        ("stack", "weighs rowwise over needs parts"),
        ("mam", "rowwise learns parts"),
        ("prefix", "rowwise learns"),
    ],
)
def test_what_the_built_ins_can(name: str, wanted: str) -> None:
    can = vars(plugins.method(name).can)
    assert {field for field, value in can.items() if value is True} - {"averages"} == set(wanted.split())


@pytest.mark.parametrize(
    ("beside", "wanted"),
    [
        ("lora", "adds weighs identity rowwise colwise inverse row learns parts"),
        ("dora", "weighs identity rowwise inverse row learns parts"),
        ("houlsby", "weighs rowwise learns parts row"),
    ],
)
def test_an_arrangement_can_what_its_parts_can(beside: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "beside", beside)
    assert {field for field, value in vars(Pair().can).items() if value is True} == set(wanted.split())


def test_an_arrangement_of_what_is_given_has_no_parts_before() -> None:
    class Given(Composite[Nothing]):
        name = "given"

    assert Given().merges(Nothing())
    assert not Given().can.learns


# ---------------------------------------------------------------- tensors


def test_what_an_adapter_gives_is_live() -> None:
    p = adaptr.create(tiny.shell("llama"), "lora", r=2).at("model.layers.0.mlp.up_proj")
    assert (p.training, p.slots) == (False, None)
    made = p.derived("g", (), lambda: torch.ones(2))
    assert p.derived("g", (), lambda: torch.zeros(2)).sum() == 0 != made.sum()


def test_plain_tensors_have_no_call_to_take_from() -> None:
    with pytest.raises(Unsupported, match="only there in a call of a live model"):
        Tensors(A=torch.ones(1)).taken()


def test_wide_tensors_are_as_live_as_those_below() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora", "attn.q")) as session:
        state = next(iter(session.states.values()))
        wide = Wide(state)
        assert wide.training
        assert wide.sources(1.0) == state.sources(1.0)
        assert wide.slots is None  # those below are not wide


def test_tensors_are_pickled() -> None:
    found = pickle.loads(pickle.dumps(Tensors(A=torch.ones(2))))
    assert type(found) is Tensors
    assert torch.equal(found["A"], torch.ones(2))


def test_rows_are_refused_by_what_has_none() -> None:
    assert isinstance(plugins.method("lora").row(*_at("lora")), Row)
    with pytest.raises(Unsupported, match="can't be one row of a batch"):
        plugins.method("oft").row(*_at("oft"))


def _at(name: str) -> tuple[adaptr.Target, View, Live]:
    model = tiny.model("llama")
    adapter = adaptr.create(model, name, "attn.q")
    path, target = next(iter(adapter.targets.items()))
    return target, View(model.get_submodule(path), lambda s: model.get_parameter(f"{path}.weight")[s]), adapter.at(path)
