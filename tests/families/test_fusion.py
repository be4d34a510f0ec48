"""Fusions: what inserts would add is combined by another method, and what can't be a part is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch

import adaptr
import tiny
from adaptr import Fusion, Param
from adaptr.errors import Unsupported
from adaptr.testing import logits, shaken
from brought import installed


@dataclass(frozen=True)
class Config:
    experts: list[str] = field(default_factory=list)


class Mean(Fusion[Config]):
    """y = h + g ∘ the mean of the branches."""

    name = "mean"
    targets: ClassVar = ("ffn_out",)
    params: ClassVar = {"g": Param("d", init="ones")}

    def combine(self, h: Any, x: Any, branches: Any, p: Any, cfg: Any) -> Any:
        return h + p["g"] * torch.stack(list(branches.values())).mean(0)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(monkeypatch, Mean):
        yield


def parts(model: Any) -> dict[str, Any]:
    return {
        "b": shaken(adaptr.create(model, "parallel", m=4), 1),
        "a": shaken(adaptr.create(model, "houlsby", ["ffn_out"], m=3), 2),
    }


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_mean_of_one_alone_is_that_one(name: str) -> None:
    model, given = tiny.model(name), tiny.inputs(name)
    for part in parts(model).values():
        fused = adaptr.create(model, "mean", children={"only": part})
        with torch.no_grad():
            with adaptr.attach(model, part):
                wanted = logits(model(**given))
            with adaptr.attach(model, fused):
                torch.testing.assert_close(logits(model(**given)), wanted)


def test_the_mean_of_two_is_that_of_what_they_add_to_the_same_output() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    path = "model.layers.1.mlp"
    two = {n: adaptr.Adapter.replace(p, targets={path: p.targets[path]}) for n, p in parts(model).items()}
    two = {n: p.replace(tensors={k: t for k, t in p.tensors.items() if k.startswith(path)}) for n, p in two.items()}
    fused = adaptr.create(model, "mean", children=two)
    seen = []
    hook = model.model.layers[1].mlp.register_forward_hook(lambda m, a, y: seen.append(y))
    with torch.no_grad():
        model(**given)
        for adapter in (*two.values(), fused):
            with adaptr.attach(model, adapter):
                model(**given)
    hook.remove()
    bare, one, other, both = seen
    torch.testing.assert_close(both - bare, (one + other - 2 * bare) / 2, rtol=1e-4, atol=1e-6)


def test_only_its_own_tensors_learn() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "mean", children=parts(model))) as session:
        assert sorted(tuple(p.shape) for p in session.parameters()) == [(tiny.WIDTH,)] * 2


def test_what_adds_nothing_to_an_output_is_no_part() -> None:
    model = tiny.model("llama")
    with pytest.raises(Unsupported, match="`mean` combines what inserts add to an output, and `a` is `lora`"):
        adaptr.create(model, "mean", children={"a": adaptr.create(model, "lora")})


def test_parts_at_other_places_are_refused() -> None:
    model = tiny.model("llama")
    two = {"a": adaptr.create(model, "houlsby", m=3), "b": adaptr.create(model, "parallel", m=3)}
    with pytest.raises(Unsupported, match=r"must be at the same places, and not all are at `model.layers.0.self_attn"):
        adaptr.create(model, "mean", children=two)
