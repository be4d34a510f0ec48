"""The laws, on a method that asks where its tokens stand, and the paper's formula token by token."""

import copy
from typing import Any

import pytest
import torch

import adaptr
import adaptr.testing
from adaptr.errors import Unsupported
from adaptr.testing import Driver, assert_close, logits, shaken, tiny_llama

PATH = "model.layers.1"


class TestLoReFT(adaptr.testing.Laws):
    method = "loreft"
    config = {"r": 4, "first": 2, "last": 1}


def made(model: Any, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "loreft", [PATH], **{"r": 3, "first": 1, "last": 2, **config}))


def at_tokens(model: Any, adapter: adaptr.Adapter, ids: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """The paper's formula at those tokens, by a hook on the bare model."""
    p = adapter.at(PATH)
    R = torch.linalg.qr(p["R"].T).Q.T

    def hook(module: Any, args: Any, h: torch.Tensor) -> torch.Tensor:
        h = h.clone()
        for t in tokens:
            h[0, t] += R.T @ (p["W"] @ h[0, t] + p["b"] - R @ h[0, t])
        return h

    bare = copy.deepcopy(model)
    bare.get_submodule(PATH).register_forward_hook(hook)
    with torch.no_grad():
        return logits(bare(ids))


def test_it_is_the_papers_formula_at_first_and_last_tokens() -> None:
    model, ids = tiny_llama(), torch.arange(3, 9)[None]
    adapter = made(model)
    wanted = at_tokens(model, adapter, ids, [0, 4, 5])
    with adaptr.attach(model, adapter), torch.no_grad():
        assert_close(logits(model(ids)), wanted)
        padded = torch.cat([torch.zeros(1, 2, dtype=torch.long), ids], 1)
        mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
        assert_close(logits(model(padded, attention_mask=mask))[:, 2:], wanted)


def test_texts_that_are_packed_have_ends_of_their_own() -> None:
    from adaptr_gain.loreft import ends

    class Packed:
        offset = 0
        real = staticmethod(lambda: torch.ones(1, 7, dtype=torch.bool))
        positions = staticmethod(lambda: torch.tensor([[0, 1, 2, 3, 0, 1, 2]]))
        prompted = real

    assert ends(Packed(), 1, 1)[0].tolist() == [True, False, False, True, True, False, True]  # type: ignore[arg-type]


def test_generated_text_is_no_prompt_and_a_prompt_is_one_call() -> None:
    model, ids = tiny_llama(), torch.arange(3, 9)[None]
    adapter = made(model)
    bare = at_tokens(model, adapter, torch.cat([ids, ids[:, :1]], 1), [0, 4, 5])[:, -1]
    with adaptr.attach(model, adapter), torch.no_grad():
        first = model(ids, use_cache=True)
        assert_close(logits(model(ids[:, :1], past_key_values=first.past_key_values))[:, -1], bare)
        with pytest.raises(Unsupported, match="give it in one call"):
            model(ids, past_key_values=first.past_key_values)


@pytest.mark.parametrize("beams", [1, 2])
def test_generating_without_a_cache_is_generating_with_one(beams: int) -> None:
    model, ids = tiny_llama(), torch.arange(3, 9).repeat(2, 1)
    ids[1, :2] = 0
    given = {"input_ids": ids, "attention_mask": (ids > 0).long(), "max_new_tokens": 4, "num_beams": beams}
    with adaptr.attach(model, made(model, last=3)):
        wanted = model.generate(**given, do_sample=False, pad_token_id=0)
        assert torch.equal(model.generate(**given, do_sample=False, pad_token_id=0, use_cache=False), wanted)
    assert "generate" not in model.__dict__


def test_what_is_finished_has_orthonormal_rows_and_does_the_same() -> None:
    model, ids = tiny_llama().train(), torch.arange(3, 9)[None]
    with adaptr.train(model, made(model)) as session:
        Driver(session, [{"input_ids": ids}], 3, lambda output, batch: logits(output).square().mean()).fit()
        finished = session.finish()
        with torch.no_grad():
            wanted = logits(model(ids))
    R = finished.at(PATH)["R"]
    assert_close(R @ R.T, torch.eye(3))
    with adaptr.attach(model, finished), torch.no_grad():
        assert_close(logits(model(ids)), wanted)
