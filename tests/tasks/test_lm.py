"""Texts, prompts and conversations as rows of ids, and which of them are learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord, CheckpointError, DataError, Unsupported
from adaptr.tasks import Encoded, Limits, Tools
from adaptr.tasks.builtin.lm import spans
from adaptr.tasks.spans import tokenised

LM = tasks.by_name("lm")
LONG = Limits(10_000)


def tools(template: str | None = speaking.TURNS) -> Tools:
    return Tools(speaking.tokenizer(template), pad=0)


def encoded(values: dict[str, object], limits: Limits = LONG, template: str | None = speaking.TURNS) -> list[Encoded]:
    return list(LM.encode([Record(values, Place("a.jsonl", 7))], tools(template), limits))


def learned(one: Encoded, template: str | None = speaking.TURNS) -> str:
    """The text whose tokens have a loss."""
    labels: list[int] = one.example["labels"]  # type: ignore[assignment]
    return str(speaking.tokenizer(template).decode([label for label in labels if label != -100]))


def text(one: Encoded) -> str:
    return str(speaking.tokenizer().decode(one.example["input_ids"]))


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=30).filter(str.strip)


@given(WORDS, WORDS)
def test_the_completion_is_learned_and_nothing_else(prompt: str, answer: str) -> None:
    # a line between: no pair of bytes that was learned goes over it, so no token stands in both
    (one,) = encoded({"prompt": prompt + "\n", "completion": answer})
    assert text(one) == f"{prompt}\n{answer}<|im_end|>"
    assert learned(one) == f"{answer}<|im_end|>"
    assert one.learns == sum(label != -100 for label in one.example["labels"])  # type: ignore[attr-defined]


def test_a_token_that_stands_in_both_is_learned() -> None:
    """One tokenisation: the context of an answer is the one that the model will see."""
    (one,) = encoded({"prompt": "th", "completion": "e cat"})
    assert text(one) == "the cat<|im_end|>"
    assert learned(one).endswith(" cat<|im_end|>")


@pytest.mark.parametrize("template", [speaking.TURNS, speaking.MARKED], ids=["prefixes", "marks"])
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
def test_what_the_assistant_says_is_learned(template: str, turns: list[tuple[str, str]]) -> None:
    chat = [m for ask, say in turns for m in ({"role": "user", "content": ask}, {"role": "assistant", "content": say})]
    (one,) = encoded({"messages": chat}, template=template)
    assert learned(one) == "".join(f"{say}<|im_end|>\n" for _, say in turns)


def test_completions_that_are_conversations() -> None:
    ask, say = [{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}]
    before = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    (one,) = encoded({"prompt": [*before, *ask], "completion": say})
    assert learned(one) == "b<|im_end|>\n"


def test_a_text_goes_on_in_the_next_row_and_each_token_is_learned_once() -> None:
    rows = encoded({"text": "the cat sat on the mat " * 9}, Limits(16))
    ids = speaking.tokenizer()("the cat sat on the mat " * 9)["input_ids"] + [2]
    assert all(len(row.example["input_ids"]) <= 16 and row.cut == 0 for row in rows)  # type: ignore[arg-type]
    assert [i for row in rows for i in row.example["labels"] if i != -100] == ids[1:]  # type: ignore[attr-defined]


def test_the_end_is_not_said_twice() -> None:
    (one,) = encoded({"prompt": "a\n", "completion": "b<|im_end|>"})
    assert learned(one) == "b<|im_end|>"


def test_what_is_too_long_is_cut_and_counted() -> None:
    whole = encoded({"prompt": "a\n", "completion": "0 1 2 3 4 5 6 7 8 9"})[0]
    (one,) = encoded({"prompt": "a\n", "completion": "0 1 2 3 4 5 6 7 8 9"}, Limits(8))
    assert (len(one.example["input_ids"]), one.cut) == (8, len(whole.example["input_ids"]) - 8)  # type: ignore[arg-type]
    assert one.learns < whole.learns


ASK = {"role": "user", "content": "a"}
BAD: list[tuple[dict[str, object], str]] = [
    ({"prompt": "a", "completion": ""}, "the completion is empty"),
    ({"prompt": "a", "completion": " \n"}, "the completion is empty"),
    ({"prompt": "a"}, "`completion` is missing"),
    ({"prompt": "a", "completion": 3}, "`completion` is 3, wanted a text"),
    ({"text": ""}, "the text is empty"),
    ({"text": None}, "`text` is null; give it a text"),
    ({"prompt": "a b c d e f g h i j k", "completion": "z"}, "no token of the answer is within `length` 8"),
    ({"messages": []}, "`messages` is [], wanted a list"),
    ({"messages": "hello"}, "wanted a list of `role` and `content`"),
    ({"messages": [ASK]}, "no message is the assistant's"),
    ({"messages": [ASK, {"role": "bot", "content": "b"}]}, "the role of message 2 is `bot`, wanted one of assistant"),
    ({"messages": [ASK, {"role": "assistant", "content": 1}]}, "the content of message 2 is 1, wanted a text"),
    ({"messages": [ASK, {"role": "assistant", "content": ""}]}, "message 2, the assistant's, is empty"),
    ({"messages": [ASK, "b"]}, "message 2 is b, wanted `role` and `content`"),
    ({"messages": [{"role": "assistant", "content": "b"}]}, "the first message is the assistant's"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "has parts that are no text"),
]


@pytest.mark.parametrize(("values", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_records(values: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRecord) as caught:
        encoded(values, Limits(8))
    assert str(caught.value).startswith("a.jsonl:7: ")
    assert reason in str(caught.value)


CHAT: dict[str, object] = {"messages": [ASK, {"role": "assistant", "content": "b"}] * 2}


def test_a_template_that_can_not_mask() -> None:
    with pytest.raises(BadRecord, match=r"a\.jsonl:7: the chat template writes message 2 otherwise when more follows"):
        encoded(CHAT, template=speaking.FORGETS)


def test_no_template() -> None:
    with pytest.raises(DataError, match="the base has no chat template"):
        encoded(CHAT, template=None)


def test_a_template_that_refuses() -> None:
    with pytest.raises(BadRecord, match=r"the chat template does not take these messages: .*only two"):
        encoded(CHAT, template="{{ raise_exception('only two') }}")


def test_a_tokenizer_without_offsets() -> None:
    class Slow:
        is_fast, eos_token_id = False, 2

    with pytest.raises(Unsupported, match="doesn't say which characters a token stands for"):
        list(LM.encode([Record({"text": "a"}, Place("a", 1))], Tools(Slow()), LONG))  # type: ignore[arg-type]


def test_rows_are_filled_and_masked() -> None:
    examples = [encoded({"prompt": "a\n", "completion": c})[0].example for c in ("b", "the cat sat")]
    batch = LM.collate(examples, tools())
    assert {name: tuple(t.shape) for name, t in batch.items()}.keys() == {"input_ids", "labels", "attention_mask"}
    short = len(examples[0]["input_ids"])  # type: ignore[arg-type]
    assert batch["attention_mask"][0].tolist() == [1] * short + [0] * (batch["input_ids"].shape[1] - short)
    assert batch["labels"][0, short:].eq(-100).all()


def test_the_loss_is_the_mean_of_what_is_predicted(tmp_path: Path) -> None:
    base = speaking.llama(tmp_path)
    model, have = LM.model(base, ()).eval(), tasks.tools(base)
    records = [Record({"prompt": "a\n", "completion": c}, Place("a", 1)) for c in ("b", "the cat sat")]
    examples = [one.example for one in LM.encode(records, have, LONG)]
    batch = LM.collate(examples, have)
    scores = [one for row in LM.predicted(model, batch, have) for one in row]  # type: ignore[attr-defined]
    loss = model(**batch).loss
    assert torch.tensor(scores).mean().neg().item() == pytest.approx(loss.item(), abs=1e-5)


def test_answers_are_texts_and_the_same_each_time(tmp_path: Path) -> None:
    base = speaking.llama(tmp_path)
    model, have = LM.model(base, ()).eval(), tasks.tools(base)
    records = [Record(CHAT, Place("a", 1)), Record({"text": "the cat"}, Place("a", 2))]
    once, again = (LM.answers(model, records, have, LONG, 5) for _ in range(2))
    assert once == again
    assert all(isinstance(one, str) for one in once)
    assert [LM.wanted(record, LONG) for record in records] == ["b", "the cat"]


def test_an_encoder_is_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no `cls\.|can't be loaded"):
        LM.model(speaking.bert(tmp_path), ())


def test_a_tokenizer_that_ends_every_text_does_not_end_a_prompt() -> None:
    from adaptr.tasks.builtin.lm import _asked, spans

    ending = speaking.encoder_tokenizer()  # puts its tokens around whatever it is given
    ending.eos_token = speaking.END
    asked = spans(Record({"prompt": "a", "completion": "b"}, Place("a", 1)), ending)
    assert ending.decode(_asked(asked, ending, 64)) == "<|im_start|>a"
    (one,) = LM.encode([asked.record], Tools(ending), LONG)
    assert ending.decode(one.example["input_ids"]) == "<|im_start|>ab<|im_end|>"


def test_spaces_that_a_tokenizer_trims_from_its_offsets_are_learned() -> None:
    tokenizer = speaking.tokenizer()
    plain = speaking.tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    for prompt, answer in (("a: ", " b  c \n"), ("a", "   b\n    return  1 "), (" ", " "), ("a  ", "b")):
        record = Record({"prompt": prompt, "completion": answer + "."}, Place("a", 1))
        trimmed, whole = (tokenised([spans(record, one)], one) for one in (tokenizer, plain))
        assert trimmed == whole
