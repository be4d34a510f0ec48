"""Texts and pairs of texts for models with a head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.errors import DataError, Unsupported
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Tools
from adaptr.tasks.padding import batches, padded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encoded(
    records: Iterable[Record], tools: Tools, limits: Limits, answer: Callable[[Record], object]
) -> Iterator[Encoded]:
    """An example a record: its `text`, or `text` and `text_pair`, cut to `length`, the longer one first; `labels` is
    what `answer` says.
    """
    tokenizer, length = needed(tools), room(tools, limits)
    paired: bool | None = None
    for many in batches(records):
        answers = [answer(record) for record in many]
        second = next((record for record in many if "text_pair" in record.values), None)
        if paired is False and second is not None:
            raise second.place.bad("`text_pair` is here, and in no record before", want="pairs all through, or none")
        paired = paired or second is not None
        texts = [nonempty(record, "text") for record in many]
        pairs = [nonempty(record, "text_pair") for record in many] if paired else None
        got = tokenizer(texts, pairs, return_attention_mask=False, verbose=False)
        for i, record in enumerate(many):
            example = {name: values[i] for name, values in got.items()}
            count = len(example["input_ids"])
            if count > length:
                both = (texts[i], pairs[i] if pairs else None)
                example = tokenizer(*both, truncation=True, max_length=length, return_attention_mask=False)
            cut = count - len(example["input_ids"])
            yield Encoded({**example, "labels": answers[i]}, record, cut)


def needed(tools: Tools) -> PreTrainedTokenizerBase:
    """The tokenizer. Raises `DataError` where there is none."""
    if tools.tokenizer is None:
        raise DataError("the base has no tokenizer beside it, so texts can't be read", hint="save it in the folder")
    return tools.tokenizer


def spelled(tools: Tools) -> PreTrainedTokenizerBase:
    """A tokenizer that says which characters a token stands for. Raises `Unsupported` for one that does not."""
    tokenizer = needed(tools)
    if not tokenizer.is_fast:
        raise Unsupported(
            f"the tokenizer ({type(tokenizer).__name__}) doesn't say which characters a token stands for, so what is "
            "to be learned can't be told from the rest",
            hint="take a base with a `tokenizer.json`",
        )
    return tokenizer


def room(tools: Tools, limits: Limits) -> int:
    """Tokens of an example: what is asked for, or less where the model has no more places."""
    return min(limits.length, tools.places or limits.length)


def nonempty(record: Record, column: str) -> str:
    """The text in a column. Raises `BadRecord` where there is none, or an empty one."""
    found = record.text(column)
    if not found.strip():
        raise record.place.bad(f"`{column}` is empty")
    return found


def pads(examples: Sequence[Example], tools: Tools) -> Batch:
    """Ids side by side, and which of two texts they are of where the model wants to know."""
    names = {"input_ids": tools.pad, "token_type_ids": 0}
    return padded(examples, {name: pad for name, pad in names.items() if name in examples[0]})
