"""Forwards of one model that overlap: each is what it is alone, whatever runs it."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr.testing import assert_close, shaken


def elsewhere(run: Callable[[], Any]) -> Any:
    """What `run` gives in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    assert found, "the other thread raised"
    return found[0]


@contextmanager
def in_the_middle(module: nn.Module, run: Callable[[], Any]) -> Iterator[list[Any]]:
    """While it is entered, the next forward of `module` first has another thread do `run`, to its end."""
    found: list[Any] = []

    def hook(*_: object) -> None:
        if not found:
            found.append(None)
            found[0] = elsewhere(run)

    handle = module.register_forward_pre_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def said(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(5)
    one, two = (torch.randint(3, tiny.VOCAB, (2, n), generator=made) for n in (7, 7))
    return one, two


def on_experts(model: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "lora", ["*experts*"], r=4))


CASES: dict[str, tuple[str, Callable[[Any], adaptr.Adapter], str]] = {
    "experts": ("mixtral", on_experts, "model.layers.0.mlp.experts.act_fn"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_forward_in_another_thread_leaves_the_one_under_way_alone(case: str) -> None:
    name, make, middle = CASES[case]
    model = tiny.model(name)
    one, two = texts()
    bare = said(model, one)
    with adaptr.attach(model, make(model)):
        wanted, other = said(model, one), said(model, two)
        assert not torch.allclose(wanted, bare)
        with in_the_middle(model.get_submodule(middle), lambda: said(model, two)) as found:
            assert torch.equal(said(model, one), wanted)
        assert torch.equal(found[0], other)


def test_only_a_forward_sees_adapted_experts() -> None:
    model = tiny.model("mixtral")
    experts = model.model.layers[0].mlp.experts
    raw, path = experts.down_proj, "model.layers.0.mlp.experts.down_proj"
    with adaptr.attach(model, on_experts(model)):
        seen = []
        hook = experts.act_fn.register_forward_hook(lambda *_: seen.append(experts.down_proj))
        said(model, texts()[0])
        hook.remove()
        assert not torch.equal(seen[0], raw)
        assert experts.down_proj is raw
        assert model.get_parameter(path) is raw


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_adapted_experts_are_copied_with_their_model(copied: Callable[[Any], Any]) -> None:
    model, ids = tiny.model("mixtral"), texts()[0]
    with adaptr.attach(model, on_experts(model)):
        wanted = said(model, ids)
        assert_close(said(copied(model), ids), wanted, to=1e-6)


@pytest.mark.parametrize("implementation", ["batched_mm", "grouped_mm"])
def test_adapted_experts_compile_without_a_break(implementation: str) -> None:
    model, ids = tiny.model("mixtral"), texts()[0]
    model.set_experts_implementation(implementation)
    with adaptr.attach(model, on_experts(model)):
        wanted = said(model, ids)
        assert_close(said(torch.compile(model, backend="eager", fullgraph=True), ids), wanted, to=1e-6)
