"""What is drawn in training is of the forward and the place."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors
from host.forwards import alone, fresh, padded, said
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")


def drawn(model: Any, session: Any, inputs: Any) -> tuple[int, ...]:
    """What the places of one forward draw."""
    found: list[int] = []
    state = next(iter(session.states.values()))
    hook = model.model.layers[1].register_forward_hook(
        lambda *_: found.extend(int(s.draw(1000)) for s in session.states.values())
    )
    try:
        model(**inputs, use_cache=False)
    finally:
        hook.remove()
    assert state.training
    return tuple(found)


def test_draws_are_of_the_forward_and_the_place() -> None:
    model = tiny.model("llama").train()
    with adaptr.train(model, fresh(model, "routed")) as session:
        found = [drawn(model, session, alone(0)) for _ in range(20)]
        assert session.draws.number == 20
    assert len(set(found)) == 20
    assert all(one != two for one, two in found)
    with adaptr.train(model, fresh(model, "routed")) as again:
        assert [drawn(model, again, alone(0)) for _ in range(20)] == found
    with adaptr.train(model, fresh(model, "routed")) as other:
        other.draws.seed = 1
        assert drawn(model, other, alone(0)) != found[0]


def test_draws_are_spread_evenly() -> None:
    from adaptr.host.draws import hashed, place_of

    for stream in (0, 1):
        found = torch.stack([hashed(torch.arange(1, 2001), 0, place_of(f"layers.{i}"), stream) % 4 for i in range(4)])
        counts = torch.stack([(found == k).sum(1) for k in range(4)])
        assert int((counts - 500).abs().max()) < 80
        pairs = (found[0] * 4 + found[1]).bincount(minlength=16)
        assert int((pairs - 125).abs().max()) < 50


def test_evaluating_changes_no_draw_and_draws_nothing() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, fresh(model, "routed")) as session:
        model.eval()
        said(model, alone(0))
        assert session.draws.number == 0
        asking = next(iter(session.states.values()))
        hook = model.model.layers[0].register_forward_hook(lambda *_: asking.draw(5))
        with pytest.raises(errors.MissingContext, match="not in training"):
            said(model, alone(0))
        hook.remove()


def test_forwards_in_training_in_many_threads_have_numbers_of_their_own() -> None:
    model, seen = tiny.model("llama").train(), []
    with adaptr.train(model, fresh(model, "routed")) as session:
        numbers = session.draws
        hook = model.model.layers[0].register_forward_hook(
            lambda *_: seen.append(int(session.entrance.now()._numbers[numbers]))
        )

        def run() -> None:
            for _ in range(10):
                model(**alone(0), use_cache=False).logits.square().mean().backward()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hook.remove()
    assert sorted(seen) == list(range(1, 41))


def test_two_forwards_in_one_graph_are_two() -> None:
    from adaptr.host.draws import Draws

    draws = Draws()
    torch._dynamo.reset()
    twice = torch.compile(lambda x: (x + draws.next(), x + draws.next()), backend="aot_eager", fullgraph=True)
    assert [tuple(int(n) for n in twice(torch.zeros(()))) for _ in range(2)] == [(1, 2), (3, 4)]


def test_an_encoder_and_a_decoder_are_one_forward() -> None:
    model = tiny.model("t5").train()
    with adaptr.train(model, fresh(model, "routed")) as session:
        model(**tiny.inputs("t5"))
        model(**tiny.inputs("t5"))
        assert session.draws.number == 2


def test_a_fusion_in_training_numbers_its_own_draws() -> None:
    model = tiny.model("llama").train()
    whole = adaptr.create(model, "summed", children={"a": fresh(model, "branched")})
    with adaptr.train(model, whole) as session:
        model(**padded())
        assert session.entrance is not None
        assert [state.mount.context for state in session.entrance.states] == [True]
