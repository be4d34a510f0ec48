"""Causal language modelling: texts, prompts with completions, and conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Data, Record
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.chat import conversation
from adaptr.tasks.generating import generated
from adaptr.tasks.models import answering, loaded
from adaptr.tasks.padding import IGNORED, batches, padded
from adaptr.tasks.spans import Spans, Tokens, tokenised
from adaptr.tasks.texts import needed, room, spelled

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class LanguageModelling(Task):
    """`text`: all of it is learned, and what is longer than a row goes on in the next. `prompt` and `completion`,
    `messages`: the completion, or what the assistant says, is learned; what is longer than a row is cut. `source` and
    `target` are a prompt and a completion with an empty line between.
    """

    name = "lm"
    summary = "Go on with a text, answer a prompt, or say the assistant's part of a conversation."
    columns = (("messages",), ("prompt", "completion"), ("source", "target"), ("text",))
    trainer = "sft"
    metrics = ("perplexity",)

    def suits(self, data: Data) -> bool:
        return super().suits(data) and (answered(data.records[0]) or "label" not in data.records[0].values)

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return loaded(base, "AutoModelForCausalLM", load=load)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        tokenizer, length = spelled(tools), room(tools, limits)
        for many in batches(records):
            for tokens in tokenised([spans(record, tokenizer) for record in many], tokenizer):
                whole = "text" in tokens.record.values and not answered(tokens.record)
                yield from _windows(tokens, length) if whole else [cut(tokens, length)]

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        return padded(examples, {"input_ids": tools.pad, "labels": IGNORED})

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[list[float]]:
        """Of each example, the logarithm of the probability of each token that is learned."""
        return [row.tolist() for row in likelihoods(model, batch)]

    def join(self, parts: Sequence[tuple[Encoded, object]]) -> list[float]:
        return [one for _, scores in parts for one in scores]  # type: ignore[attr-defined]

    def wanted(self, record: Record, limits: Limits) -> str:
        """What an answer should be: the completion, the assistant's last message, or the text."""
        values = record.values
        for name in ("completion", "target"):
            if isinstance(values.get(name), str):
                return record.text(name)
        chat = values.get("messages") or values.get("completion")
        return str(chat[-1].get("content")) if isinstance(chat, list) and chat else record.text("text")

    def answers(
        self, model: nn.Module, records: Sequence[Record], tools: Tools, limits: Limits, new: int = 128
    ) -> list[str]:
        """What the model says, a token after the other and always the likeliest; on a text, how it goes on behind its
        first half.
        """
        tokenizer = needed(tools)
        asked = [_asked(spans(record, tokenizer), tokenizer, room(tools, limits)) for record in records]
        return [generated(model, ids, tools, new) for ids in asked]


def likelihoods(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Of each example, the logarithms of the probabilities of the tokens that are learned."""
    logits = answering(model, batch).logits
    labels = batch["labels"][:, 1:].to(logits.device)
    found = []
    for row, wanted in zip(logits[:, -labels.shape[1] - 1 : -1], labels, strict=True):
        learned = wanted != IGNORED
        chances = row[learned].float().log_softmax(-1)
        found.append(chances.gather(-1, wanted[learned][:, None])[:, 0])
    return found


def answered(record: Record) -> bool:
    """Whether a record is asked something, and does not only go on."""
    return any(name in record.values for name in ("completion", "messages", "target"))


def spans(record: Record, tokenizer: PreTrainedTokenizerBase) -> Spans:
    """The text of a record of any of the three forms, and what is learned of it."""
    values = record.values
    if "messages" in values:
        return conversation(record, tokenizer, values["messages"])
    if "target" in values and "completion" not in values:
        return answer_to(record, record.text("source") + "\n\n", record.text("target"))
    if "completion" not in values and "prompt" not in values:
        text = record.text("text")
        if not text:
            raise record.place.bad("the text is empty")
        return Spans(record, text, ((0, len(text)),))
    prompt, completion = values.get("prompt"), values.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return conversation(record, tokenizer, [*prompt, *completion], len(prompt))
    return answer_to(record, record.text("prompt"), record.text("completion"))


def answer_to(record: Record, before: str, answer: str) -> Spans:
    """A prompt and what is learned to follow it."""
    if not answer.strip():
        raise record.place.bad("the completion is empty, so there is nothing to learn")
    return Spans(record, before + answer, ((len(before), len(before + answer)),))


def cut(tokens: Tokens, length: int) -> Encoded:
    """The beginning of a row that is too long. Raises `BadRecord` where that is no part of what is learned."""
    ids, labels = tokens.ids[:length], tokens.labels[:length]
    learns = sum(one != IGNORED for one in labels)
    if not learns:
        raise tokens.record.place.bad(
            f"no token of the answer is within `length` {length}",
            got=None,
            hint=f"the record has {len(tokens.ids)} tokens: raise `length`, or shorten the prompt",
        )
    return Encoded({"input_ids": ids, "labels": labels}, tokens.record, len(tokens.ids) - len(ids), learns)


def _windows(tokens: Tokens, length: int) -> Iterator[Encoded]:
    """A text in rows. The last token of one is the first of the next, so that each is predicted once."""
    last = len(tokens.ids) - 1
    if not last:
        raise tokens.record.place.bad("the text is one token, so there is nothing to predict")
    for start in range(0, last, length - 1):
        ids = tokens.ids[start : start + length]
        labels = [IGNORED, *tokens.labels[start + 1 : start + length]]
        learns = sum(one != IGNORED for one in labels)
        yield Encoded({"input_ids": ids, "labels": labels}, tokens.record, 0, learns)


def _asked(text: Spans, tokenizer: PreTrainedTokenizerBase, length: int) -> list[int]:
    """The ids of what comes before the last span that is learned; of a text that is learned whole, of its half."""
    first = text.learned[-1][0] or len(text.text) // 2
    asked = text.text[:first]
    ids: list[int] = tokenizer(asked, add_special_tokens=text.special)["input_ids"]
    ended = ids[-1:] == [tokenizer.eos_token_id] and not asked.endswith(str(tokenizer.eos_token))
    return (ids[:-1] if ended else ids)[-length:]  # some tokenizers end whatever they are given
