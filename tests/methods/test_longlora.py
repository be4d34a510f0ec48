"""LongLoRA's attention in training against masks written out over all tokens, and who can't have it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import adaptr
import tiny
from adaptr.errors import BadConfig, Unsupported
from adaptr.testing import shaken
from adaptr.training.fields import recipe

GROUPS = 4
WRITTEN = "written_out"


def seen(T: int, G: int, shift: int) -> Tensor:
    """(T, T) of bool: what each token sees, between cuts at `shift`, `shift` + G ..."""
    cuts = [0, *range(shift, T, G), T] if shift else [*range(0, T, G), T]
    found = torch.zeros(T, T, dtype=torch.bool)
    for start, end in itertools.pairwise(cuts):
        for i in range(start, end):
            found[i, start : i + 1] = True
    return found


def written_out(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> Any:
    """S² with every mask in full, keys repeated for all heads."""
    heads, T = q.shape[1:3]
    G = -(-T // GROUPS)
    near, far = seen(T, G, 0), seen(T, G, G // 2)
    allowed = torch.stack([near] * (heads // 2) + [far] * (heads // 2))[None]
    allowed = allowed if mask is None else allowed & mask
    k, v = (t.repeat_interleave(heads // k.shape[1], 1) for t in (k, v))
    scores = (q @ k.mT * options["scaling"]).masked_fill(~allowed, -1e9)
    return (scores.softmax(-1) @ v).transpose(1, 2), None


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    AttentionInterface.register(WRITTEN, written_out)
    AttentionMaskInterface.register(WRITTEN, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    yield
    for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        registry._global_mapping.pop(WRITTEN)


def llama(**fields: int) -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**tiny.GROUPED, **fields}))


def adapter_for(model: Any) -> Any:
    return shaken(adaptr.create(model, "longlora", r=2, groups=GROUPS, also=["embed", "norm"]))


def padded(T: int, side: str) -> dict[str, Tensor]:
    given = tiny.inputs("llama", length=T)
    if side:
        mask = torch.ones(2, T, dtype=torch.long)
        mask[1, slice(0, 3) if side == "left" else slice(T - 3, T)] = 0
        given["attention_mask"] = mask
    return given


def real(logits: Tensor, given: dict[str, Tensor]) -> Tensor:
    return logits[given.get("attention_mask", torch.ones(logits.shape[:2])).bool()]


@pytest.mark.parametrize("kv", [4, 2, 1])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("T", "side"), [(16, ""), (16, "left"), (16, "right"), (12, ""), (11, "right"), (2, "")])
def test_training_sees_groups_and_evaluation_everything(kv: int, implementation: str, T: int, side: str) -> None:
    model, given = llama(num_key_value_heads=kv), padded(T, side)
    adapter = adapter_for(model)
    with torch.no_grad():
        with adaptr.attach(model, adapter):
            whole = real(model(**given).logits, given)
            model.set_attn_implementation(WRITTEN)
            grouped = real(model(**given).logits, given)
        model.set_attn_implementation(implementation)
        with adaptr.train(model.train(), adapter):
            torch.testing.assert_close(real(model(**given).logits, given), grouped, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(real(model.eval()(**given).logits, given), whole, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole, grouped, atol=1e-3)
    assert model.config._attn_implementation == implementation


def test_gradients_are_those_of_what_is_written_out() -> None:
    model, given = llama(), padded(16, "left")
    adapter, found = adapter_for(model), []
    for written in (False, True):
        if written:
            model.set_attn_implementation(WRITTEN)
            adapter = adaptr.create(model, "lora", list(adapter.targets), r=2, also=["embed", "norm"]).replace(
                tensors=adapter.tensors
            )
        with adaptr.train(model.train(), adapter) as session:
            real(model(**given).logits, given).square().mean().backward()
            found.append({name: p.grad for name, p in session.named().items()})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-3, atol=1e-5, msg=name)


def test_no_token_sees_a_later_one() -> None:
    model, given = llama(), tiny.inputs("llama", length=16)
    with torch.no_grad(), adaptr.train(model.train(), adapter_for(model)):
        before = model(**given).logits
        given["input_ids"][:, -1] = 5
        after = model(**given).logits
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_what_is_used_has_the_attention_of_the_base() -> None:
    model = llama()
    with adaptr.attach(model.train(), adapter_for(model)):
        assert model.config._attn_implementation == "sdpa"


def test_an_exception_leaves_the_model_as_it_was() -> None:
    model, given = llama(), tiny.inputs("llama", length=8)
    before = model.eval()(**given).logits
    with pytest.raises(IndexError), adaptr.train(model.train(), adapter_for(model)):
        model(given["input_ids"] + tiny.VOCAB)
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model.eval()(**given).logits, before)


def test_a_filled_cache_is_refused() -> None:
    model, given = llama(), tiny.inputs("llama", length=8)
    with adaptr.train(model.train(), adapter_for(model)):
        past = model(**given, use_cache=True).past_key_values
        with pytest.raises(Unsupported, match=r"9 keys of 1 tokens.*use_cache=False"):
            model(given["input_ids"][:, :1], past_key_values=past)


def test_heads_without_halves_are_refused() -> None:
    model = llama(hidden_size=24, num_attention_heads=3, num_key_value_heads=3)
    with (
        adaptr.train(model.train(), adapter_for(model)),
        pytest.raises(Unsupported, match=r"3 heads.*an even number of heads"),
    ):
        model(**tiny.inputs("llama"))


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_what_is_no_decoder_is_refused(name: str) -> None:
    model = tiny.model(name)
    with pytest.raises(Unsupported, match="is for decoders"):
        adaptr.train(model, adaptr.create(model, "longlora", r=2))


def test_another_implementation_is_refused_in_training_and_not_afterwards() -> None:
    model = llama()
    adapter = adapter_for(model)
    model.set_attn_implementation(WRITTEN)
    with pytest.raises(Unsupported, match=f"`{WRITTEN}`.*sdpa or eager"):
        adaptr.train(model, adapter)
    adaptr.attach(model, adapter).detach()


def test_one_group_is_refused() -> None:
    with pytest.raises(BadConfig, match="groups"):
        adaptr.create(llama(), "longlora", groups=1)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [({}, ("embed", "norm")), ({"also": "norm"}, "norm"), ({"also": []}, ()), ({"adapter": "a"}, ())],
)
def test_embeddings_and_norms_go_with_it_unless_something_else_is_said(said: Any, wanted: Any) -> None:
    assert recipe(base="b", data="d", method="longlora", **said).also == wanted
