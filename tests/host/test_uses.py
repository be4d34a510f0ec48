"""Calls and reads are told apart from the source of the forwards above a layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tiny
from adaptr.host.uses import use


def projected(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.linear(x, layer.weight)


def of_module(module: Any, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, module.inside.weight)


class Many(nn.Module):
    """One layer for each way of coming by it, named after it."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("called", "fact", "read", "alias", "handed", "inside", "fetched", "helped", "either", "other"):
            setattr(self, name, nn.Linear(4, 4))
        self.listed = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.looped = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.indexed = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.keyed = nn.ModuleDict({"a": nn.Linear(4, 4)})
        self.encoded, self.hidden = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, first: bool = True) -> torch.Tensor:
        x = self.called(x)
        x = self.fact(x.to(self.fact.weight.dtype)) if self.fact.weight is not None else x
        x = F.linear(x, self.read.weight)
        w = self.alias
        x = F.linear(x, w.weight, w.bias)
        x = projected(x, self.handed)
        x = of_module(self, x)
        x = F.linear(x, getattr(self, "fetched").weight)  # noqa: B009
        x = self._helped(x)
        for layer in self.listed:
            x = F.linear(x, layer.weight)
        for i, step in enumerate(self.looped):
            x = step(x) + i
        x = F.linear(x, self.indexed[0].weight)
        for layer in self.keyed.values():
            x = torch.addmm(layer.bias, x, layer.weight.t())
        one = self.either if first else self.other
        return one(x)

    def _helped(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.helped.weight.t()

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.encoded.weight)

    def reset_parameters(self) -> None:
        self.hidden.weight.data.zero_()


@pytest.mark.parametrize("path", ["called", "fact", "looped.0", "looped.1", "either", "other"])
def test_what_is_called_is_not_read(path: str) -> None:
    found = use(Many(), path)
    assert (found.called, found.read, found.bypassed) == (True, False, False)


READ = ["read", "alias", "inside", "fetched", "helped", "listed.1", "indexed.0", "keyed.a", "encoded"]


@pytest.mark.parametrize("path", READ)
def test_what_is_read_is_not_called(path: str) -> None:
    found = use(Many(), path)
    assert (found.called, found.read, found.bypassed) == (False, True, True)


def test_what_is_handed_on_may_be_both() -> None:
    found = use(Many(), "handed")
    assert (found.called, found.read, found.bypassed) == (True, True, False)


def test_upkeep_is_no_use() -> None:
    found = use(Many(), "hidden")
    assert (found.called, found.read) == (False, False)


@pytest.mark.parametrize("path", ["read", "called"])
def test_containers_and_outer_models_are_looked_through(path: str) -> None:
    model = nn.Sequential(nn.ModuleDict({"a": Many()}), nn.Identity())
    assert use(model, f"0.a.{path}").bypassed is (path == "read")


def test_a_grandparent_reads_too() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4))
            self.blocks = nn.ModuleList([nn.ModuleDict({"fc": nn.Linear(4, 4)})])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.blocks[0]
            return F.linear(self.inner(x), self.inner[0].weight) + F.linear(x, first["fc"].weight)

    assert use(Outer(), "inner.0")[:2] == (True, True)
    assert use(Outer(), "blocks.0.fc")[:2] == (False, True)


def test_code_that_cannot_be_read_may_do_anything() -> None:
    made: dict[str, Any] = {}
    exec("def forward(self, x):\n    return self.fc(x)", made)
    hidden = type("Hidden", (nn.Module,), {"forward": made["forward"]})()
    hidden.fc = nn.Linear(4, 4)
    assert use(hidden, "fc")[:3] == (True, True, False)


def test_a_lone_layer_is_called_by_whoever_holds_it() -> None:
    assert use(nn.ModuleDict({"fc": nn.Linear(4, 4)}), "fc")[:2] == (True, False)


#: What else models read past its layer: a table whose rows are all taken at once, and a weight that is taken apart
#: where queries come from elsewhere. As the outer model hands itself on, the table may be called too.
READ_AND_CALLED = {
    "deberta": {"deberta.encoder.rel_embeddings"}
    | {f"deberta.encoder.layer.{n}.attention.self.in_proj" for n in range(2)},
    "deberta-v2": {"deberta.encoder.rel_embeddings"},
}


@pytest.mark.parametrize("name", [n for n in tiny.MAKERS if n not in {"bloom", "clip"}])
def test_ordinary_models_call_all_their_layers(name: str) -> None:
    model = tiny.model(name)
    layers = [p for p, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Embedding)]
    found = {path: use(model, path)[:2] for path in layers}
    read = dict.fromkeys(READ_AND_CALLED.get(name, ()), (True, True))
    assert found == dict.fromkeys(layers, (True, False)) | read
