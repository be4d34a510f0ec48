"""Token classification: a tag for each word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record, named
from adaptr.errors import shown
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.labels import likeliest, names_of
from adaptr.tasks.models import answering, fresh, loaded, with_filling
from adaptr.tasks.padding import IGNORED, batches, padded
from adaptr.tasks.texts import room, spelled

if TYPE_CHECKING:
    from torch import nn

#: What a word is that is part of nothing; said of words that were cut off.
NOTHING = "O"
ENDING = "ForTokenClassification"


class Tagging(Task):
    """`words` and `tags`, as many. The words are put side by side with spaces; the first token of each has its tag."""

    name = "tag"
    summary = "Say a tag for each word."
    columns = (("words", "tags"),)
    metrics = ("entity_f1", "tag_accuracy")

    def labels(self, records: Sequence[Record], base: Path | None = None) -> tuple[str, ...]:
        found = dict.fromkeys(tag for record in records for tag in tags_of(record))
        return names_of(found, records[0].place.file, base, ENDING, "tags")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return with_filling(loaded(base, "AutoModelForTokenClassification", labels, load), base)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        tokenizer, length = spelled(tools), room(tools, limits)
        ids = {name: i for i, name in enumerate(limits.labels)}
        for many in batches(records):
            tags = [_known(record, limits.labels) for record in many]
            texts = [" ".join(_words(record)) for record in many]
            got = tokenizer(texts, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
            short = tokenizer(
                texts, truncation=True, max_length=length, return_attention_mask=False, return_offsets_mapping=True
            )
            for i, record in enumerate(many):
                example = {name: values[i] for name, values in short.items()}
                words = first_tokens(_words(record), example.pop("offset_mapping"))
                labels = [IGNORED if word is None else ids[tags[i][word]] for word in words]
                learned = [word for word in words if word is not None]
                if not learned:
                    raise record.place.bad("none of the words has a token")
                cut = len(got["input_ids"][i]) - len(example["input_ids"])
                yield Encoded({**example, "labels": labels}, record, cut, len(learned), tuple(learned))

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        names = {"input_ids": tools.pad, "token_type_ids": 0, "labels": IGNORED}
        return padded(examples, {name: pad for name, pad in names.items() if name in examples[0]})

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        return fresh(model)

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[list[str]]:
        """The likeliest tag at each token that has one."""
        logits = answering(model, batch).logits
        asked = batch["labels"].to(logits.device) != IGNORED
        return [likeliest(model, row[mask]) for row, mask in zip(logits, asked, strict=True)]

    def join(self, parts: Sequence[tuple[Encoded, object]]) -> list[str]:
        """A tag for each word; "O" where a word was cut off or has no token."""
        ((encoded, said),) = parts
        at: tuple[int, ...] = encoded.aside  # type: ignore[assignment]
        found = dict(zip(at, said, strict=True))  # type: ignore[call-overload]
        return [found.get(i, NOTHING) for i in range(len(_words(encoded.record)))]

    def wanted(self, record: Record, limits: Limits) -> list[str]:
        return _known(record, limits.labels)

    def answers(
        self, model: nn.Module, records: Sequence[Record], tools: Tools, limits: Limits, new: int = 128
    ) -> list[str]:
        """Each word with its tag, those that are part of nothing left alone: `Paris/B-LOC is`."""
        said = self.answering(model, records, tools, limits)
        pairs = [zip(_words(record), tags, strict=True) for record, tags in zip(records, said, strict=True)]  # type: ignore[call-overload]
        return [" ".join(word if tag == NOTHING else f"{word}/{tag}" for word, tag in pair) for pair in pairs]


def first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each token, the word whose first one it is, of a text of words with spaces between."""
    found: list[int | None] = []
    word, start, seen = 0, 0, -1
    for begin, end in offsets:
        while word < len(words) and start + len(words[word]) <= begin:
            start += len(words[word]) + 1
            word += 1
        inside = begin < end and word < len(words) and start < end
        found.append(word if inside and word > seen else None)
        seen = word if inside else seen
    return found


def _words(record: Record) -> list[str]:
    words = record.values.get("words")
    if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise record.place.bad("`words`", got=shown(words), want="a list of texts, none of them empty")
    return words


def tags_of(record: Record) -> list[str]:
    """The tags of a record, as many as words. Raises `BadRecord`."""
    words, tags = _words(record), record.values.get("tags")
    if not isinstance(tags, list) or not all(isinstance(t, str | int) and t != "" for t in tags):
        raise record.place.bad("`tags`", got=shown(tags), want="a list with a tag for each word")
    if len(tags) != len(words):
        raise record.place.bad(f"there are {len(tags)} tags", want=f"{len(words)}, one for each word")
    return [str(tag).strip() for tag in tags]


def _known(record: Record, names: Sequence[str]) -> list[str]:
    tags = tags_of(record)
    strange = next((tag for tag in tags if tag not in names), None)
    if strange is not None:
        raise record.place.bad("a tag", got=f"`{shown(strange)}`", want=f"one of {named(names)}")
    return tags
