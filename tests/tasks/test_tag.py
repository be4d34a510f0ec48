"""Words with tags: the first token of each word has its tag."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord, DataError
from adaptr.tasks import Encoded, Limits, Tools

TAG = tasks.by_name("tag")
NAMES = ("B-LOC", "O")
HAVE = Tools(speaking.encoder_tokenizer(), pad=0)
WORDS, TAGS = ["the", "cat", "Paris?"], ["O", "O", "B-LOC"]


def encoded(words: object, tags: object, length: int = 64, have: Tools = HAVE) -> Encoded:
    (one,) = TAG.encode([Record({"words": words, "tags": tags}, Place("a", 2))], have, Limits(length, NAMES))
    return one


@given(
    st.lists(
        st.text(
            st.characters(min_codepoint=33, max_codepoint=0x4FF, categories=["L", "N", "P"]), min_size=1, max_size=9
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_word_has_one_label_at_its_first_token(words: list[str]) -> None:
    one = encoded(words, ["B-LOC" if i % 2 else "O" for i in range(len(words))], 1000)
    ids: list[int] = one.example["input_ids"]  # type: ignore[assignment]
    labels: list[int] = one.example["labels"]  # type: ignore[assignment]
    assert [label for label in labels if label != -100] == [1 - i % 2 for i in range(len(words))]
    inside = ids[1:-1]
    starts = [i for i, label in enumerate(labels[1:-1]) if label != -100]
    pieces = [inside[a:b] for a, b in zip(starts, [*starts[1:], len(inside)], strict=True)]
    assert [speaking.encoder_tokenizer().decode(piece).strip() for piece in pieces] == words


def test_it_is_what_transformers_makes_of_words() -> None:
    """With a tokenizer that takes words, its own `word_ids` and its collator give the same batch."""
    from transformers import BertTokenizer, DataCollatorForTokenClassification

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "pa", "##ris", "##s", "?", "."]
    bert = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    have = Tools(bert, pad=0)
    sentences = [["the", "cats", "paris?"], ["the", "cat"], ["?"]]
    theirs, ours = [], []
    for words in sentences:
        tags = [i % 2 for i in range(len(words))]
        got = bert(words, is_split_into_words=True)
        ids = got.word_ids()
        labels = [-100 if w is None or (i and ids[i - 1] == w) else tags[w] for i, w in enumerate(ids)]
        theirs.append({**got, "labels": labels})
        ours.append(encoded(words, [NAMES[tag] for tag in tags], have=have).example)
    wanted = DataCollatorForTokenClassification(bert)(theirs)
    found = TAG.collate(ours, have)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])


def test_answers_have_a_tag_for_each_word(tmp_path: Path) -> None:
    base = speaking.bert(tmp_path)
    model, have = TAG.model(base, NAMES).eval(), tasks.tools(base)
    assert TAG.heads(model, base) == ("classifier",)
    whole, short = encoded(WORDS, TAGS, have=have), encoded(WORDS, TAGS, 4, have)
    assert (short.cut, short.learns) == (whole.cut + len(whole.example["input_ids"]) - 4, 2)  # type: ignore[arg-type]
    batch = TAG.collate([whole.example, short.example], have)
    said = TAG.joined([whole, short], TAG.predicted(model, batch, have))
    assert [len(tags) for tags in said] == [3, 3]  # type: ignore[arg-type]
    assert said[1][2:] == ["O"]  # type: ignore[index]
    assert torch.isfinite(model(**batch).loss)
    (text,) = TAG.answers(model, [whole.record], have, Limits(64, NAMES))
    assert [word.partition("/")[0] for word in text.split(" ")] == WORDS


def test_names_of_tags() -> None:
    records = [Record({"words": WORDS, "tags": TAGS}, Place("a", 1))]
    assert TAG.labels(records) == ("B-LOC", "O")
    with pytest.raises(DataError, match="every `tags` is `O`"):
        TAG.labels([Record({"words": ["a"], "tags": ["O"]}, Place("a", 1))])


BAD: list[tuple[object, object, str]] = [
    (["a", "b"], ["O"], "there are 1 tags, wanted 2, one for each word"),
    (["a", ""], ["O", "O"], "`words` is .*, wanted a list of texts, none of them empty"),
    ("a b", ["O", "O"], "`words` is a b"),
    ([], [], "`words` is"),
    (["a"], None, "`tags` is None, wanted a list"),
    (["a"], [1.5], "`tags` is"),
    (["a"], ["B-PER"], "a tag is `B-PER`, wanted one of `B-LOC`, `O`"),
]


@pytest.mark.parametrize(("words", "tags", "reason"), BAD, ids=[reason for *_, reason in BAD])
def test_bad_records(words: object, tags: object, reason: str) -> None:
    with pytest.raises(BadRecord, match=f"a:2: .*{reason}"):
        encoded(words, tags)


def test_spaces_around_a_tag_are_none_of_it() -> None:
    record = Record({"words": ["a", "b"], "tags": [" O", "B-X "]}, Place("a", 1))
    assert tasks.by_name("tag").labels([record, record]) == ("B-X", "O")
