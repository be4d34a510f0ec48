"""What a forward knows in another thread, and in blocks that are computed again."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close
from host.forwards import alone, elsewhere, fresh, padded, said
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")


@pytest.mark.parametrize("method", ["ends", "word", "rung"])
def test_a_forward_in_another_thread_leaves_the_one_under_way_alone(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, method)):
        wanted, other, seen = said(model, padded()), said(model, alone(1)), []

        def between(*_: object) -> None:
            if not seen:
                seen.append(None)
                seen[0] = elsewhere(lambda: said(model, alone(1)))

        hook = model.model.layers[1].register_forward_pre_hook(between)
        assert torch.equal(said(model, padded()), wanted)
        hook.remove()
        assert torch.equal(seen[0], other)


def gradients(model: Any, adapter: adaptr.Adapter, apart: bool = False) -> dict[str, torch.Tensor]:
    """Of a session after a loss over two forwards, the backward pass here or in another thread."""
    with adaptr.train(model, adapter) as session:
        forwards = [model(**inputs, use_cache=False).logits for inputs in (alone(0), alone(1))]
        loss = forwards[0].square().mean() + 3 * forwards[1].square().mean()
        (elsewhere if apart else lambda run: run())(loss.backward)
        states = session.states.items()
        return {f"{path}:{n}": state[n].grad.clone() for path, state in states for n in state.learning}


@pytest.mark.parametrize(
    ("method", "reentrant"), [(m, on) for m in ("ends", "routed", "word") for on in (False, True)] + [("rung", False)]
)
@pytest.mark.parametrize("apart", [False, True], ids=["here", "elsewhere"])
def test_recomputed_blocks_find_their_forward(method: str, reentrant: bool, apart: bool) -> None:
    adapter = fresh(tiny.model("llama"), method)
    wanted = gradients(tiny.model("llama").train(), adapter)
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    found = gradients(model, adapter, apart)
    assert wanted.keys() == found.keys()
    for key, one in wanted.items():
        assert float(one.abs().max()) > 0
        assert_close(found[key], one)


def test_taps_under_reentrant_checkpointing_are_refused() -> None:
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with (
        adaptr.train(model, fresh(model, "rung")),
        pytest.raises(errors.Unsupported, match=r"has no graph.*use_reentrant"),
    ):
        model(**alone(0), use_cache=False)


def test_checkpointing_of_ones_own_says_how_or_is_refused() -> None:
    adapter = fresh(tiny.model("llama"), "routed")
    wanted = gradients(tiny.model("llama").train(), adapter)
    for more in ({"context_fn": adaptr.checkpointing}, {}):
        model = tiny.model("llama").train()
        for layer in model.model.layers:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False, **more)
        if more:
            found = gradients(model, adapter, apart=True)
            for key, one in wanted.items():
                assert_close(found[key], one)
        else:
            with pytest.raises(errors.MissingContext, match=r"context_fn=adaptr\.checkpointing"):
                gradients(model, adapter, apart=True)
