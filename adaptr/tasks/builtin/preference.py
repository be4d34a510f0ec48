"""Preferences: a prompt, an answer that was chosen and one that was rejected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.errors import shown
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.builtin.lm import answer_to, cut, likelihoods
from adaptr.tasks.chat import conversation
from adaptr.tasks.models import loaded
from adaptr.tasks.padding import IGNORED, batches, padded
from adaptr.tasks.spans import Spans, Tokens, tokenised
from adaptr.tasks.texts import room, spelled

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

ANSWERS = ("chosen", "rejected")


class Preference(Task):
    """`prompt`, `chosen` and `rejected`: texts, or lists of messages. Examples are what TRL's `DPOTrainer` makes of its
    data itself, and so takes as they are: `prompt_ids`, `chosen_ids`, `rejected_ids`.
    """

    name = "preference"
    summary = "Prefer the answer that was chosen to the one that was rejected."
    columns = (("prompt", "chosen", "rejected"),)
    trainer = "dpo"
    smooths = False
    metrics = ("accuracy",)

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return loaded(base, "AutoModelForCausalLM", load=load)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        tokenizer, length = spelled(tools), room(tools, limits)
        for many in batches(records):
            sides = [[_spans(record, name, tokenizer) for record in many] for name in ANSWERS]
            for pair in zip(*(tokenised(side, tokenizer) for side in sides), strict=True):
                yield _encoded(pair, length)

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        """The chosen answers, then the rejected ones: [2 * examples, longest]."""
        rows = [_row(example, name) for name in ANSWERS for example in examples]
        return padded(rows, {"input_ids": tools.pad, "labels": IGNORED})

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[str]:
        """Which of the two the model thinks likelier."""
        found = [float(row.sum()) for row in likelihoods(model, batch)]
        half = len(found) // 2
        return [ANSWERS[a < b] for a, b in zip(found[:half], found[half:], strict=True)]

    def wanted(self, record: Record, limits: Limits) -> str:
        return ANSWERS[0]


def _spans(record: Record, name: str, tokenizer: PreTrainedTokenizerBase) -> Spans:
    prompt, answer = record.values.get("prompt"), record.values.get(name)
    if record.values.get("chosen") == record.values.get("rejected"):
        raise record.place.bad("`chosen` and `rejected` are the same, so there is nothing to prefer")
    if isinstance(prompt, list) and isinstance(answer, list):
        return conversation(record, tokenizer, [*prompt, *answer], len(prompt))
    if isinstance(prompt, list) != isinstance(answer, list):
        raise record.place.bad(f"`{name}`", got=shown(answer), want="messages where `prompt` is, else a text")
    return answer_to(record, record.text("prompt"), record.text(name))


def _encoded(pair: Sequence[Tokens], length: int) -> Encoded:
    """Both answers behind the tokens that they have in common with the prompt."""
    sides = [cut(tokens, length) for tokens in pair]
    ids: list[list[int]] = [one.example["input_ids"] for one in sides]  # type: ignore[misc]
    begins = [next(i for i, label in enumerate(tokens.labels) if label != IGNORED) for tokens in pair]
    start = next((i for i in range(min(begins)) if ids[0][i] != ids[1][i]), min(begins))
    example = {"prompt_ids": ids[0][:start], "chosen_ids": ids[0][start:], "rejected_ids": ids[1][start:]}
    return Encoded(example, pair[0].record, sum(one.cut for one in sides), sum(one.learns for one in sides))


def _row(example: Example, name: str) -> Example:
    prompt: list[int] = example["prompt_ids"]  # type: ignore[assignment]
    answer: list[int] = example[f"{name}_ids"]  # type: ignore[assignment]
    return {"input_ids": [*prompt, *answer], "labels": [*[IGNORED] * max(len(prompt), 1), *answer[not prompt :]]}
