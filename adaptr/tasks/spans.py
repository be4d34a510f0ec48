"""Texts in which some characters are to be learned: tokenised once, as a whole, and masked by character offsets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.tasks.padding import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: A span behind every text.
NOWHERE = (sys.maxsize, sys.maxsize)


@dataclass(frozen=True)
class Spans:
    """A text, and the characters of it that are learned: (first, behind the last) of each span. `ends`: whether the
    text ends where the model has to stop, so that it is followed by the token for that. `special`: whether the
    tokenizer puts its own tokens around it; a chat template wrote them already.
    """

    record: Record
    text: str
    learned: tuple[tuple[int, int], ...]
    ends: bool = True
    special: bool = True


@dataclass(frozen=True)
class Tokens:
    """Ids and labels of a text, not cut; the first has no label, as nothing comes before it."""

    record: Record
    ids: list[int]
    labels: list[int]


def tokenised(texts: Sequence[Spans], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
    """The tokens of each; those that touch a span are learned."""
    found: dict[int, Tokens] = {}
    for special in (True, False):
        part = [i for i, one in enumerate(texts) if one.special is special]
        if part:
            got = tokenizer(
                [texts[i].text for i in part],
                add_special_tokens=special,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            for i, ids, offsets in zip(part, got["input_ids"], got["offset_mapping"], strict=True):
                found[i] = _masked(texts[i], list(ids), offsets, tokenizer.eos_token_id)
    return [found[i] for i in range(len(texts))]


def _masked(text: Spans, ids: list[int], offsets: Sequence[tuple[int, int]], end: int | None) -> Tokens:
    learns = _touching(offsets, text.learned)
    if text.ends and end is not None:
        if not ids or ids[-1] != end:
            ids, learns = [*ids, end], [*learns, True]
        learns[-1] = True
    labels = [one if yes else IGNORED for one, yes in zip(ids, learns, strict=True)]
    return Tokens(text.record, ids, [IGNORED, *labels[1:]])


def _touching(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens touch a span; both are in the order of the text. Tokens of no characters touch none.

    Some tokenizers trim the space from a token's offsets, and leave where it ends of one that is nothing else.
    """
    found, ahead, behind = [], iter(spans), 0
    start, end = next(ahead, NOWHERE)
    for first, last in offsets:
        if first == last:
            first = min(behind, last)
        behind = max(behind, last)
        while end <= first:
            start, end = next(ahead, NOWHERE)
        found.append(start < last and first < last)
    return found
