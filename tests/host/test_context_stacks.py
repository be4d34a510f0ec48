"""What a forward knows where several ask: stacks of a model, adapters on one another, a strength for each row."""

from __future__ import annotations

import copy

import pytest
import torch

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close, shaken
from host.forwards import alone, elsewhere, fresh, padded, said
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")


@pytest.mark.parametrize("method", ["ends", "word"])
def test_both_stacks_of_t5_know_their_own_text(method: str) -> None:
    model = tiny.model("t5")
    inputs = {"decoder_input_ids": torch.tensor([[0, 9, 7, 4, 5, 6]])}
    with adaptr.attach(model, fresh(model, method)):
        together = said(model, {**alone(0), **inputs})
        states = model.encoder(**alone(0)).last_hidden_state
        hidden = model.decoder(input_ids=inputs["decoder_input_ids"], encoder_hidden_states=states)[0]
        scale = model.model_dim**-0.5 if model.config.tie_word_embeddings else 1.0
        assert_close(model.lm_head(hidden * scale).detach(), together)
        assert not torch.equal(together, said(tiny.model("t5"), {**alone(0), **inputs}))


def test_t5_generates_as_it_does_without_a_cache() -> None:
    model = tiny.model("t5")
    with adaptr.attach(model, fresh(model, "word")):
        more = {"max_new_tokens": 5, "do_sample": False}
        assert torch.equal(model.generate(**alone(0), **more), model.generate(**alone(0), **more, use_cache=False))


def test_two_adapters_at_once_know_the_same_forward_and_pay_for_it_once() -> None:
    model = tiny.model("llama")
    before = len(model._forward_pre_hooks)
    one, two = fresh(model, "ends"), fresh(model, "rung")
    with adaptr.attach(model, one) as handle, adaptr.attach(model, two) as other:
        assert handle.entrance is other.entrance
        assert len(model._forward_pre_hooks) == before + 1
        both, both_alone = said(model, padded()), said(model, alone(1))
        assert_close(both[1, 2:], both_alone[0])
        other.detach()
        assert_close(said(model, padded())[1, 2:], said(model, alone(1))[0])
    assert len(model._forward_pre_hooks) == before


def test_expert_stacks_beside_one_that_asks() -> None:
    model = tiny.model("mixtral")
    lora = shaken(adaptr.create(model, "lora", ["*experts*"], r=2))
    with adaptr.attach(model, lora), adaptr.attach(model, fresh(model, "ends")):
        assert_close(said(model, padded())[1, 2:], said(model, alone(1))[0])


def test_a_gate_and_one_that_taps_are_what_they_are_apart() -> None:
    """The gate's pass of the base runs the blocks before they run."""
    model = tiny.model("llama")
    children = {n: shaken(adaptr.create(model, "lora", r=4, seed=i), i) for i, n in enumerate("ab")}
    gate = shaken(adaptr.create(model, "xlora", children=children, dropout=0.0), 3, by=2.0)
    with adaptr.attach(model, fresh(model, "rung")), adaptr.attach(model, gate):
        with_gate = said(model, alone(0))
        assert_close(said(copy.deepcopy(model).double(), alone(0)).float(), with_gate, to=1e-4)
        assert_close(said(model, padded())[0], with_gate[0], to=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
def test_each_row_of_a_batch_may_have_a_strength_of_its_own(recompute: bool) -> None:
    model, strengths = tiny.model("llama"), [0.0, 0.7]
    inputs = {"input_ids": torch.tensor([[5, 7, 4], [8, 6, 7]]), "use_cache": False}
    with adaptr.attach(model, fresh(model, "rung")) as handle:
        wanted = []
        for i, strength in enumerate(strengths):
            handle.weight = strength
            wanted.append(said(model, inputs)[i])
        handle.weight = 1.0
        plain = said(model, inputs)
        if recompute:
            model.train()
            model.activation_checkpointing_enable({"use_reentrant": False})
        embeds = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        with handle.rows(strengths):
            found = model(inputs_embeds=embeds, use_cache=False).logits
            assert torch.equal(elsewhere(lambda: said(model, inputs)), plain)
        elsewhere(lambda: found.square().sum().backward() or True)
        assert_close(found.detach(), torch.stack(wanted))
        assert torch.equal(said(model, inputs), plain)


def test_strengths_of_rows_are_refused_where_they_would_do_nothing() -> None:
    model = tiny.model("llama")
    lora = shaken(adaptr.create(model, "lora"))
    with (
        adaptr.attach(model, lora) as handle,
        pytest.raises(errors.Unsupported, match="one strength for all rows"),
        handle.rows([1.0]),
    ):
        pass
    with (
        adaptr.attach(model, fresh(model, "ends")) as handle,
        handle.rows([1.0, 0.5]),
        pytest.raises(errors.UsageError, match=r"for \(2,\) rows, and the batch has 1"),
    ):
        said(model, alone(0))


def test_what_comes_behind_a_stack_finds_the_forward_again() -> None:
    """The context of the call around a stack is there when the stack has run."""
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, "ends", targets=["lm_head"])):
        said(model, padded())
