"""P-tuning's rows inside a text, where it has their slots: all else is the text's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

import adaptr
import tiny
from adaptr.errors import BadConfig, TargetMismatch, Unsupported, UsageError
from adaptr.testing import assert_close, logits, shaken
from training_data import tokenizer

SLOT = 63
#: The paper's template of (1, 2) with an anchor, and words before, between and behind.
TEXT = torch.tensor([[5, SLOT, 9, 4, SLOT, SLOT, 7, 11], [SLOT, 8, 3, SLOT, 10, 12, SLOT, 6]])


def made(model: Any, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "p-tuning", tokens=3, hidden=4, slot=SLOT, **config), by=0.5)


def written_out(model: Any, adapter: adaptr.Adapter, ids: Tensor) -> Tensor:
    """What a text is embedded as, row by row."""
    from adaptr import plugins

    method: Any = plugins.method("p-tuning")
    P = method.front(adapter.at(""), method.config(adapter.config))["P"]
    stack = model.get_encoder() if model.config.is_encoder_decoder else model
    h = stack.get_input_embeddings()(ids).clone()
    for row, text in enumerate(ids):
        h[row, (text == SLOT).nonzero()[:, 0]] = P.to(h)
    return h


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "gemma2"])
def test_each_slot_is_a_row_and_all_else_is_as_it_was(name: str) -> None:
    model = tiny.model(name)
    adapter = made(model)
    more = {"decoder_input_ids": TEXT[:, :3]} if name == "t5" else {}  # a slot in a decoder's text is a word
    with torch.no_grad():
        wanted = logits(model(inputs_embeds=written_out(model, adapter, TEXT), **more))
        with adaptr.attach(model, adapter):
            assert_close(logits(model(input_ids=TEXT, **more)), wanted)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_text_is_the_text(name: str, side: str) -> None:
    model = tiny.model(name)
    ids, short, mask = TEXT.clone(), TEXT[0, :6], torch.ones_like(TEXT)
    where = slice(0, 2) if side == "left" else slice(6, 8)
    own = slice(2, 8) if side == "left" else slice(0, 6)
    ids[0, own], ids[0, where], mask[0, where] = short, 0, 0
    at = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), adaptr.attach(model, made(model)):
        found = logits(model(input_ids=ids, attention_mask=mask, position_ids=at))
        assert_close(found[0, own], logits(model(input_ids=short[None]))[0])
        assert_close(found[1], logits(model(input_ids=TEXT[1:]))[0])


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_it_generates_alike_with_a_cache_without_by_beams_and_padded(name: str) -> None:
    model = tiny.model(name)
    adapter, mask = made(model), torch.ones_like(TEXT)
    ids = TEXT.clone()
    ids[0, 0], mask[0, 0] = 0, 0
    asked = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "suppress_tokens": [SLOT]}
    with torch.no_grad(), adaptr.attach(model, adapter):
        one, other = (model.generate(ids, attention_mask=mask, use_cache=on, **asked) for on in (True, False))
        beams = [model.generate(ids, attention_mask=mask, num_beams=3, use_cache=on, **asked) for on in (True, False)]
        alone = model.generate(ids[:1, 1:], **asked)
    assert torch.equal(one, other)
    assert torch.equal(*beams)
    assert torch.equal(one[0, -5:], alone[0, -5:])


def test_a_static_cache_holds_it_as_a_text() -> None:
    model = tiny.model("llama")
    asked = {"max_new_tokens": 4, "do_sample": False, "suppress_tokens": [SLOT]}
    with torch.no_grad(), adaptr.attach(model, made(model)):
        one, other = (model.generate(TEXT, cache_implementation=kind, **asked) for kind in (None, "static"))
    assert torch.equal(one, other)


def test_nothing_is_to_be_predicted_at_a_slot() -> None:
    model = tiny.model("llama")
    adapter = made(model)
    with adaptr.train(model, adapter) as session:
        out = model(input_ids=TEXT, labels=TEXT)
        out.loss.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in session.parameters())
    labels = TEXT.masked_fill(TEXT == SLOT, -100)
    assert_close(out.loss, cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))


def test_what_is_finished_stands_in_the_same_slots(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    adapter = made(model)
    with adaptr.train(model, adapter) as session:
        done = session.finish()
    assert {*done.tensors} == {":P"}
    adaptr.save(done, tmp_path / "a.safetensors")
    with torch.no_grad():
        with adaptr.attach(model, adapter):
            wanted = logits(model(input_ids=TEXT))
        with adaptr.attach(model, tmp_path / "a.safetensors"):
            assert_close(logits(model(input_ids=TEXT)), wanted)
    both = adaptr.compose([done, shaken(done)], "concat").adapter
    assert (both.config["tokens"], both.config["slot"]) == (6, SLOT)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input_ids": TEXT[:, :5]}, "the text has 2 slots .the token 63., wanted 3"),
        ({"input_ids": torch.cat([TEXT, TEXT], 1)}, "the text has 6 slots"),
    ],
)
def test_a_text_with_other_slots_than_rows_is_refused(given: dict[str, Tensor], says: str) -> None:
    model = tiny.model("llama")
    with torch.no_grad(), adaptr.attach(model, made(model)):
        with pytest.raises(UsageError, match=says):
            model(**given)
        assert logits(model(input_ids=TEXT)).shape[1] == TEXT.shape[1]


def test_slots_that_come_later_and_texts_without_ids_are_refused() -> None:
    model = tiny.model("llama")
    with torch.no_grad(), adaptr.attach(model, made(model)):
        cache = model(input_ids=TEXT, past_key_values=DynamicCache()).past_key_values
        with pytest.raises(UsageError, match="what stands behind a cache has 1 slots"):
            model(input_ids=torch.tensor([[SLOT], [SLOT]]), past_key_values=cache)
        with pytest.raises(Unsupported, match="embeddings have no tokens"):
            model(inputs_embeds=torch.zeros(1, 4, tiny.WIDTH))


def test_what_puts_rows_in_front_can_not_have_them(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapter = made(model, encoder="mlp")
    adaptr.save(adapter, tmp_path / "a.safetensors")
    with pytest.raises(Unsupported, match=r"stands elsewhere .`slot`.: a cache has rows in front"):
        adaptr.bake(model, adapter)
    with pytest.raises(Unsupported, match=r"stands elsewhere .`slot`.: PEFT's are in front"):
        adaptr.convert(tmp_path / "a.safetensors", tmp_path / "b", to="peft")
    with pytest.raises(Unsupported, match="does not do what a `prompt` can do"):
        adaptr.convert_method(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "prompt")
    front = adaptr.create(model, "p-tuning", tokens=3, hidden=4)
    with pytest.raises((UsageError, TargetMismatch, Unsupported), match="slot"):
        adaptr.compose([adapter, front.replace(name="b")], "concat")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"slot": 2}, "2, the base's `eos`"),
        ({"slot": -2}, "at least -1"),
        ({"marker": "w9"}, "does not say where it was loaded from; give `slot`"),
    ],
)
def test_what_can_be_no_slot_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        adaptr.create(tiny.model("llama"), "p-tuning", **config)


def test_a_marker_that_was_added_is_one_token_though_spaces_are_some(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GPT2Tokenizer

    vocabulary = {"b": 0, "Ġ": 1, "a": 2, "<slot>": 3, "Ġa": 4}  # a word is two tokens, with and without a space
    words = GPT2Tokenizer(vocabulary, [("Ġ", "a")], unk_token="b", bos_token="b", eos_token="b")
    words.add_tokens(["<slot>"])
    words.save_pretrained(tmp_path)
    tiny.model("llama").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert words("<slot> <slot>")["input_ids"] == [3, 1, 3]
    assert adaptr.create(model, "p-tuning", marker="<slot>").config["slot"] == 3
    with pytest.raises(BadConfig, match="`a`, 2 tokens if said twice"):
        adaptr.create(model, "p-tuning", marker="a")


def test_a_marker_is_one_word_of_the_bases_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer().save_pretrained(tmp_path)
    tiny.model("llama").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert adaptr.create(model, "p-tuning", marker="w59").config["slot"] == 63
    with pytest.raises(BadConfig, match="`w1 w2`, 4 tokens if said twice, wanted one token each time; take one"):
        adaptr.create(model, "p-tuning", marker="w1 w2")
    far = adaptr.create(model, "p-tuning", slot=64)
    with pytest.raises(Unsupported, match="the token 64, and the base has 64"):
        adaptr.attach(model, far)


def test_a_base_without_a_token_for_padding_says_so_by_a_number_of_no_token() -> None:
    model = tiny.model("llama")
    model.config.pad_token_id = -1
    assert adaptr.create(model, "p-tuning", tokens=3).config["slot"] == -1
