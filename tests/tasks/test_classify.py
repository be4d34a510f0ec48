"""Texts and pairs of them with the name of what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord, CheckpointError, DataError
from adaptr.tasks import Limits, Tools
from adaptr.tasks.padding import MANY

CLASSIFY = tasks.by_name("classify")
HAVE = Tools(speaking.encoder_tokenizer(), pad=0)
LIMITS = Limits(64, ("bad", "good"))


def record(line: int = 1, **values: object) -> Record:
    return Record(values, Place("a.csv", line))


def test_a_text_and_its_label() -> None:
    (one,) = CLASSIFY.encode([record(text="the cat", label="good")], HAVE, LIMITS)
    assert speaking.encoder_tokenizer().decode(one.example["input_ids"]) == "<|im_start|>the cat<|im_end|>"
    assert one.example["labels"] == 1


def test_a_pair_of_texts_is_told_apart() -> None:
    (one,) = CLASSIFY.encode([record(text="a", text_pair="b", label="bad")], HAVE, LIMITS)
    assert one.example["token_type_ids"] == [0, 0, 0, 1, 1]
    batch = CLASSIFY.collate([one.example], HAVE)
    assert batch.keys() == {"input_ids", "token_type_ids", "attention_mask", "labels"}


def test_what_is_too_long_is_cut_and_counted() -> None:
    (one,) = CLASSIFY.encode([record(text="0 1 2 3 4 5 6 7", label="bad")], HAVE, Limits(6, LIMITS.labels))
    ids: list[int] = one.example["input_ids"]  # type: ignore[assignment]
    assert (len(ids), ids[-1], one.cut) == (6, 2, 11)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "2", 1], ("1", "2", "10")),
        ([1.0, 0.0], ("0", "1")),
        ([True, False], ("False", "True")),
    ],
)
def test_names_do_not_depend_on_the_order_of_records(labels: list[object], names: tuple[str, ...]) -> None:
    for some in (labels, labels[::-1]):
        assert CLASSIFY.labels([record(text="a", label=label) for label in some]) == names


BAD = [
    ({"text": "a", "label": "ugly"}, "`label` is `ugly`, wanted one of `bad`, `good`"),
    ({"text": "a"}, "`label` is missing"),
    ({"text": "a", "label": ""}, "`label` is empty"),
    ({"text": "a", "label": [1]}, "wanted a text or a whole number"),
    ({"text": "a", "label": 0.5}, "wanted a text or a whole number"),
    ({"text": " ", "label": "bad"}, "`text` is empty"),
    ({"label": "bad"}, "`text` is missing"),
    ({"text": {}, "label": "bad"}, "wanted a text"),
]


@pytest.mark.parametrize(("values", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_records(values: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRecord) as caught:
        list(CLASSIFY.encode([record(9, **values)], HAVE, LIMITS))
    assert str(caught.value).startswith("a.csv:9: ")
    assert reason in str(caught.value)


def test_a_pair_without_its_second_text() -> None:
    records = [record(1, text="a", label="bad"), record(2, text="a", text_pair="b", label="bad")]
    with pytest.raises(BadRecord, match=r"a\.csv:1: `text_pair` is missing"):
        list(CLASSIFY.encode(records, HAVE, LIMITS))


@pytest.mark.parametrize(("others", "said"), [({}, "is missing"), ({"text_pair": "b"}, "in no record before")])
def test_pairs_are_all_through_or_nowhere_however_many_there_are(others: dict[str, str], said: str) -> None:
    usual = {} if others else {"text_pair": "b"}
    records = [record(i, text="a", label="bad", **(others if i == MANY + 1 else usual)) for i in range(1, MANY + 2)]
    with pytest.raises(BadRecord, match=rf"a\.csv:{MANY + 1}: `text_pair` .*{said}"):
        list(CLASSIFY.encode(records, HAVE, LIMITS))


def test_one_label_is_nothing_to_tell_apart() -> None:
    with pytest.raises(DataError, match="every `label` is `bad`"):
        CLASSIFY.labels([record(text="a", label="bad")] * 3)


def test_a_fresh_head_is_named_and_answers_with_names(tmp_path: Path) -> None:
    base = speaking.bert(tmp_path)
    model, have = CLASSIFY.model(base, LIMITS.labels).eval(), tasks.tools(base)
    assert CLASSIFY.heads(model, base) == ("classifier",)
    records = [record(text="the cat", label="good"), record(text="a", label="bad")]
    batch = CLASSIFY.collate([one.example for one in CLASSIFY.encode(records, have, LIMITS)], have)
    answers = CLASSIFY.predicted(model, batch, have)
    assert [LIMITS.labels[i] for i in model(**batch).logits.argmax(-1)] == answers
    assert torch.isfinite(model(**batch).loss)


def test_the_bases_own_head_keeps_its_order(tmp_path: Path) -> None:
    base = speaking.bert(tmp_path / "a")
    made = CLASSIFY.model(base, ("good", "bad"))
    made.save_pretrained(tmp_path / "b")  # type: ignore[operator]
    records = [record(text="a", label=label) for label in ("bad", "good")]
    assert CLASSIFY.labels(records, tmp_path / "b") == ("good", "bad")
    assert CLASSIFY.labels(records, base) == ("bad", "good")
    again = CLASSIFY.model(tmp_path / "b", ("good", "bad"))
    assert CLASSIFY.heads(again, tmp_path / "b") == ()
    for names in (("a", "b", "c"), ("a", "b"), ("bad", "good")):
        other = CLASSIFY.model(tmp_path / "b", names)
        assert CLASSIFY.heads(other, tmp_path / "b") == ("classifier",)
        body = made.state_dict()
        drawn = {key for key, value in other.state_dict().items() if not torch.equal(value, body[key])}
        assert "classifier.weight" in drawn <= {"classifier.weight", "classifier.bias"}


def test_a_decoder_that_says_another_token_fills_rows(tmp_path: Path) -> None:
    base = speaking.llama(tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "pad_token_id": 7}))
    torch.manual_seed(0)
    model, have = CLASSIFY.model(base, LIMITS.labels).eval(), tasks.tools(base)
    records = [record(text=text, label="bad") for text in ("a", "a b c d", "a b")]
    rows = [one.example for one in CLASSIFY.encode(records, have, LIMITS)]
    together = model(**CLASSIFY.collate(rows, have)).logits
    alone = torch.cat([model(**CLASSIFY.collate([row], have)).logits for row in rows])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_decoder_answers_at_its_last_token(tmp_path: Path) -> None:
    base = speaking.llama(tmp_path)
    model, have = CLASSIFY.model(base, LIMITS.labels).eval(), tasks.tools(base)
    assert CLASSIFY.heads(model, base) == ("score",)
    rows = [
        one.example for one in CLASSIFY.encode([record(text=t, label="bad") for t in ("a b", "a b c d")], have, LIMITS)
    ]
    alone, beside = model(**CLASSIFY.collate(rows[:1], have)).logits, model(**CLASSIFY.collate(rows, have)).logits
    torch.testing.assert_close(alone[0], beside[0])


def test_more_missing_than_a_head_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = speaking.bert(tmp_path)
    kept = load_file(base / "model.safetensors")
    del kept["encoder.layer.0.attention.self.query.weight"]
    save_file(kept, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layer\.0\.attention\.self\.query\.weight.*would draw at random"):
        CLASSIFY.model(base, LIMITS.labels)
