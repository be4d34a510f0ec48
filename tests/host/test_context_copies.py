"""What a forward knows of a copied, compiled or traced model."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import adaptr
import tiny
from adaptr.host import entrance
from adaptr.testing import assert_close
from host.forwards import alone, elsewhere, fresh, padded, said
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")


@pytest.mark.parametrize("method", ["ends", "rung", "routed"])
def test_copies_and_pickles_know_their_own_forwards(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, method)) as handle:
        wanted = said(model, padded())
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for twin in twins:
            assert torch.equal(said(twin, padded()), wanted)
            assert twin.__dict__[entrance.SLOT] is not handle.entrance
        twins[0].train()
        twins[0](**alone(0))
        assert handle.draws.number == 0


@pytest.mark.parametrize("method", ["ends", "rung"])
def test_autocast_changes_no_context(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, method)):
        wanted = said(model, padded())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = said(model, padded())
    assert_close(found.float(), wanted, to=0.1)


@pytest.mark.parametrize("method", ["ends", "word", "rung", "routed"])
def test_it_compiles_without_a_break_and_once_for_all_forwards(method: str) -> None:
    model = tiny.model("llama")
    if method == "routed":
        model.train()
    adapter, inputs = fresh(model, method), padded()
    with adaptr.train(model, adapter) as session:
        wanted = [said(model, inputs) for _ in range(4)]
        session.draws.number = 0
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        for one in wanted:
            assert_close(said(compiled, inputs), one)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
        elsewhere(lambda: said(compiled, inputs))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize("method", ["ends", "routed"])
def test_a_trace_of_checkpointed_blocks_is_what_they_are(method: str) -> None:
    """By hand: `activation_checkpointing_enable` leaves a hook on embeddings that no trace takes."""
    model = tiny.model("llama").train()
    for block in model.modules():
        if hasattr(block, "gradient_checkpointing"):
            block.gradient_checkpointing = True
            block._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    with adaptr.train(model, fresh(model, method)) as session:
        found = []
        torch._dynamo.reset()
        for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
            session.draws.number = 0
            for p in session.parameters():
                p.grad = None
            run(**alone(0), use_cache=False).logits.square().mean().backward()
            found.append([p.grad.clone() for p in session.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) == 2
    for one, other in zip(*found, strict=True):
        assert_close(other, one)
