"""Extractive question answering: the answer is a span of a context, which may be longer than a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adaptr.data.records import Record
from adaptr.errors import shown
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.models import answering, fresh, loaded
from adaptr.tasks.texts import pads, room, spelled

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

#: Tokens that two windows of one context share, at most; and of an answer.
STRIDE, LONGEST = 128, 30
#: Tokens of a context that a window must have room for.
LEAST = 8


class Span(NamedTuple):
    """Characters of the context: the first, and behind the last."""

    start: int
    end: int


class Window(NamedTuple):
    """Where in the context each token of an example stands, None for what is none of it; and the token that stands
    for no answer.
    """

    offsets: Sequence[Span | None]
    nowhere: int


class QuestionAnswering(Task):
    """`question`, `context`, and `answers` with `text` and `answer_start`, as SQuAD has them; none for a question that
    the context does not answer. A long context is several examples, that share some tokens.
    """

    name = "qa"
    summary = "Find the answer to a question in a context."
    columns = (("question", "context", "answers"),)
    smooths = False
    metrics = ("squad_f1", "squad_exact")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return loaded(base, "AutoModelForQuestionAnswering", load=load, head=True)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        tokenizer, length = spelled(tools), room(tools, limits)
        for record in records:
            yield from _windows(record, tokenizer, length)

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        import torch

        names = ("start_positions", "end_positions")
        return {**pads(examples, tools), **{n: torch.tensor([example[n] for example in examples]) for n in names}}

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        return fresh(model)

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[tuple[Tensor, Tensor]]:
        """The scores of each token as the first and as the last of the answer; `join` makes a text of them."""
        output = answering(model, batch)
        return list(zip(output.start_logits.float().cpu(), output.end_logits.float().cpu(), strict=True))

    def join(self, parts: Sequence[tuple[Encoded, object]]) -> str:
        """The best span of all windows; "" where no answer is likelier than the best."""
        found = [_best(encoded, scores) for encoded, scores in parts]  # type: ignore[arg-type]
        score, span = max(((score, span) for score, span, _ in found), key=lambda one: one[0])
        nothing = min(none for *_, none in found)
        # the tokens of some models take the space before a word with them
        return "" if nothing > score else parts[0][0].record.text("context")[span.start : span.end].strip()

    def wanted(self, record: Record, limits: Limits) -> list[str]:
        context = record.text("context")
        return [context[span.start : span.end] for span in spans_of(record)] or [""]


def _windows(record: Record, tokenizer: PreTrainedTokenizerBase, length: int) -> Iterator[Encoded]:
    question, context = record.text("question").strip(), record.text("context")
    if not question or not context.strip():
        raise record.place.bad(f"`{'context' if question else 'question'}` is empty")
    around = len(tokenizer(question, "")["input_ids"])
    if around + LEAST > length:
        raise record.place.bad(f"the question leaves no room for its context within `length` {length}")
    got = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=length,
        stride=min(STRIDE, (length - around) // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    answer = next(iter(spans_of(record)), None)
    for i in range(len(got["input_ids"])):
        ids: list[int] = got["input_ids"][i]
        inside = [side == 1 for side in got.sequence_ids(i)]
        offsets = [Span(*o) if yes else None for o, yes in zip(got["offset_mapping"][i], inside, strict=True)]
        nowhere = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
        first, last = _tokens(offsets, answer) or (nowhere, nowhere)
        names = [name for name in ("input_ids", "token_type_ids") if name in got]
        example = {**{n: got[n][i] for n in names}, "start_positions": first, "end_positions": last}
        yield Encoded(example, record, aside=Window(offsets, nowhere))


def _tokens(offsets: Sequence[Span | None], answer: Span | None) -> tuple[int, int] | None:
    """The first and the last token of the answer, where all of it is in the window."""
    if answer is None:
        return None
    touched = [i for i, o in enumerate(offsets) if o and o.start < answer.end and answer.start < o.end]
    if not touched or offsets[touched[0]].start > answer.start or offsets[touched[-1]].end < answer.end:  # type: ignore[union-attr]
        return None
    return touched[0], touched[-1]


def _best(encoded: Encoded, scores: tuple[Tensor, Tensor]) -> tuple[float, Span, float]:
    """(score, characters) of the best span of a window, and the score of there being none."""
    import torch

    window: Window = encoded.aside  # type: ignore[assignment]
    places = {i: span for i, span in enumerate(window.offsets) if span and span.end > span.start}
    start, end = (side[: len(window.offsets)] for side in scores)
    pairs = start[:, None] + end[None, :]
    inside = torch.tensor([i in places for i in range(len(start))])
    near = torch.ones_like(pairs, dtype=torch.bool).triu().tril(LONGEST - 1)
    allowed = inside[:, None] & inside[None, :] & near
    first, last = divmod(int(pairs.masked_fill(~allowed, -torch.inf).argmax()), len(start))
    span = Span(places[first].start, places[last].end)
    return float(pairs[first, last]), span, float(pairs[window.nowhere, window.nowhere])


def spans_of(record: Record) -> list[Span]:
    """Where in the context the answers are. Raises `BadRecord` where one is not."""
    context = record.text("context")
    return [_span(record, context, text, start) for text, start in _answers(record)]


def _answers(record: Record) -> list[tuple[object, object]]:
    found = record.values.get("answers")
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        starts = found.get("answer_start")
        if not isinstance(starts, list) or len(starts) != len(found["text"]):
            raise record.place.bad("`answers`", got=shown(found), want="as many `answer_start` as `text`")
        return list(zip(found["text"], starts, strict=True))
    if isinstance(found, list) and all(isinstance(one, Mapping) for one in found):
        return [(one.get("text"), one.get("answer_start")) for one in found]
    raise record.place.bad("`answers`", got=shown(found), want="`text` and `answer_start`, as SQuAD has them")


def _span(record: Record, context: str, text: object, start: object) -> Span:
    if not isinstance(text, str) or not text.strip() or isinstance(start, bool) or not isinstance(start, int):
        raise record.place.bad("an answer", got=shown((text, start)), want="a text and the character it starts at")
    if start < 0 or context[start : start + len(text)] != text:
        at = context.find(text)
        hint = f"it is at {at}" if at >= 0 else "the context does not have it"
        raise record.place.bad(f"the answer `{shown(text, 40)}` is not at character {start} of the context", hint=hint)
    return Span(start, start + len(text))
