"""Activated LoRA: PEFT's function on whole texts and in generation, and texts that are gone on with over a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr.testing import assert_close, logits, shaken, tiny_llama

QUERIES = ["attn.q", "attn.k", "attn.v"]
#: Two invocations, then one at the end of a text that is padded on the left.
IDS = torch.tensor([[5, 9, 3, 2, 9, 3, 7, 8], [0, 0, 1, 6, 10, 12, 9, 3]])
MASK = (IDS > 0).long()


def made(model: Any, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "alora", QUERIES, **{"r": 3, "alpha": 7.0, "invocation": [9, 3], **config}))


def plain(model: Any, adapter: adaptr.Adapter) -> adaptr.Adapter:
    """The same factors as LoRA, which works everywhere."""
    return adaptr.create(model, "lora", QUERIES, r=3, alpha=7.0).replace(tensors=adapter.tensors)


@torch.no_grad()
def run(model: Any, ids: Tensor = IDS, **more: Any) -> Tensor:
    return logits(model(ids, **more))


def test_before_the_last_invocation_every_bit_is_the_bases() -> None:
    model = tiny_llama()
    bare = run(model, attention_mask=MASK)
    with adaptr.attach(model, made(model)):
        found = run(model, attention_mask=MASK)
    for row, start in enumerate([4, 6]):
        assert torch.equal(found[row, :start], bare[row, :start])
        assert not torch.isclose(found[row, start:], bare[row, start:]).any(-1).all()


def test_a_text_that_is_invoked_at_its_first_token_is_loras() -> None:
    model, ids = tiny_llama(), torch.tensor([[9, 3, 7, 8, 6]])
    adapter = made(model)
    with adaptr.attach(model, plain(model, adapter)):
        wanted = run(model, ids)
    with adaptr.attach(model, adapter):
        assert_close(run(model, ids), wanted)


@pytest.mark.parametrize("strength", [0.5, -1.0])
def test_a_strength_is_that_of_the_change(strength: float) -> None:
    model = tiny_llama()
    adapter = made(model)
    scaled = adapter.replace(tensors={k: v * strength if k.endswith(":B") else v for k, v in adapter.tensors.items()})
    with adaptr.attach(model, scaled):
        wanted = run(model)
    with adaptr.attach(model, adapter, weight=strength):
        assert_close(run(model), wanted)


@pytest.mark.parametrize("cut", [1, 4])
@pytest.mark.parametrize("filled", ["base", "adapter"])
def test_what_comes_before_may_lie_in_a_cache_of_the_bases(cut: int, filled: str) -> None:
    model, ids = tiny_llama(), torch.tensor([[5, 9, 4, 2, 9, 3, 7, 8]])
    adapter = made(model)
    with torch.no_grad():
        cache = model(ids[:, :cut], use_cache=True).past_key_values if filled == "base" else None
    with adaptr.attach(model, adapter), torch.no_grad():
        wanted = run(model, ids)
        if cache is None:
            cache = model(ids[:, :cut], use_cache=True).past_key_values
        rest = model(ids[:, cut:], past_key_values=cache, use_cache=True)
        assert_close(logits(rest), wanted[:, cut:])
        one = model(ids[:, :1], past_key_values=rest.past_key_values)  # goes on invoked
        assert_close(logits(one), run(model, torch.cat([ids, ids[:, :1]], 1))[:, -1:])


def test_one_row_in_a_cache_is_gone_on_with_as_several() -> None:
    model, ids = tiny_llama(), torch.tensor([[5, 9, 3, 7]])
    with adaptr.attach(model, made(model)), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        cache.batch_repeat_interleave(2)
        more = torch.tensor([[6, 7], [8, 4]])
        found = logits(model(more, past_key_values=cache))
        assert_close(found, run(model, torch.cat([ids.expand(2, -1), more], 1))[:, 4:])
        two = model(IDS, use_cache=True).past_key_values
        two.batch_repeat_interleave(2)
        with pytest.raises(e.Unsupported, match="filled with 2 texts is gone on with as 4"):
            model(IDS[:, :1].repeat(2, 1), past_key_values=two)


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ([5, 9], [3, 7], "came in pieces"),
        ([5, 9], [3], "came in pieces"),
        ([5, 9, 3], [7, 9, 3], "invoked anew"),
        ([9, 3, 9], [3, 7], "invoked anew"),
    ],
)
def test_what_a_cache_holds_otherwise_than_the_whole_text_is_refused(
    first: list[int], then: list[int], said: str
) -> None:
    model = tiny_llama()
    with adaptr.attach(model, made(model)), torch.no_grad():
        cache = model(torch.tensor([first]), use_cache=True).past_key_values
        with pytest.raises(e.Unsupported, match=said):
            model(torch.tensor([then]), past_key_values=cache)


def test_a_cache_of_the_bases_and_no_invocation_behind_it_is_refused() -> None:
    model = tiny_llama()
    with torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
    with (
        adaptr.attach(model, made(model)),
        torch.no_grad(),
        pytest.raises(e.Unsupported, match="filled without the adapter"),
    ):
        model(IDS[:, :1], past_key_values=cache)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_cache_that_is_cut_off_before_its_invocation_is_not_invoked(kept: int) -> None:
    model, ids, more = tiny_llama(), torch.tensor([[5, 4, 9, 3, 7]]), torch.tensor([[3, 6, 8]])
    with adaptr.attach(model, made(model)), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        cache.crop(kept - 5)
        found = logits(model(more, past_key_values=cache))
        assert_close(found, run(model, torch.cat([ids[:, :kept], more], 1))[:, kept:])


def test_generating_with_a_cache_is_generating_without_one() -> None:
    model = tiny_llama()
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "output_logits": True}
    with adaptr.attach(model, made(model)):
        found = [
            model.generate(IDS, attention_mask=MASK, use_cache=cached, return_dict_in_generate=True, **how)
            for cached in (True, False)
        ]
    assert_close(torch.stack(found[0].logits), torch.stack(found[1].logits))


def test_what_is_generated_invokes_nothing_anew() -> None:
    from adaptr_plugins.insert._invoked import invoked

    class Generated:
        carried: dict[str, Any] = {}
        offset, shape, ids = 0, (1, 7), torch.tensor([[5, 9, 3, 2, 9, 3, 7]])
        real = staticmethod(lambda: torch.ones(1, 7, dtype=torch.bool))
        positions = staticmethod(lambda: torch.arange(7)[None])
        prompted = staticmethod(lambda: torch.arange(7)[None] < 4)
        leave = staticmethod(lambda name, value: None)

    assert invoked(Generated(), [9, 3])[0].tolist() == [False, *[True] * 6]  # type: ignore[arg-type]


def test_texts_that_are_packed_have_each_their_own() -> None:
    model, ids = tiny_llama(), torch.tensor([[5, 9, 3, 7, 9, 3, 8, 9, 3]])
    at = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 0]])  # the last `9 3` is torn apart
    mask = (at[0].cumsum(0)[:, None] >= 0) & torch.block_diag(*(torch.ones(n, n) for n in (4, 4, 1))).tril().bool()
    with adaptr.attach(model, made(model)):
        found = run(model, ids, position_ids=at, attention_mask=mask[None, None])
        apart = torch.cat([run(model, one) for one in ids.split([4, 4, 1], 1)], 1)
    assert_close(found, apart)


def test_padding_is_no_part_of_an_invocation() -> None:
    model, ids = tiny_llama(), torch.tensor([[9, 3, 7, 8]])
    with adaptr.attach(model, made(model)):
        found = run(model, ids, attention_mask=torch.tensor([[0, 1, 1, 1]]))
    assert torch.equal(found[:, 1:], run(model, ids, attention_mask=torch.tensor([[0, 1, 1, 1]]))[:, 1:])


def test_embeddings_in_the_place_of_ids_are_refused() -> None:
    model = tiny_llama()
    with adaptr.attach(model, made(model)), pytest.raises(e.MissingContext, match="ids of tokens"):
        model(inputs_embeds=model.get_input_embeddings()(IDS))


@pytest.mark.parametrize("invocation", [[], [-1]])
def test_an_invocation_is_some_ids(invocation: list[int]) -> None:
    with pytest.raises(e.BadConfig, match="ids of tokens, one at least"):
        adaptr.create(tiny_llama(), "alora", QUERIES, invocation=invocation)


def test_two_texts_are_refused() -> None:
    import tiny

    model = tiny.model("t5")
    with pytest.raises(e.Unsupported, match="of an encoder and of a decoder"):
        adaptr.attach(model, adaptr.create(model, "alora", QUERIES, invocation=[9]))


def test_no_weight_does_what_it_does(tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path / "base")
    adaptr.save(made(model), tmp_path / "a.safetensors")
    with pytest.raises(e.NotMergeable, match="where a token stands"):
        adaptr.merge(tmp_path / "base", [tmp_path / "a.safetensors"], tmp_path / "merged")
