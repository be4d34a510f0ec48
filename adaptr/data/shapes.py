"""Shapes that data sets commonly have, and the columns that they are to our tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from adaptr.data.records import Place, named
from adaptr.errors import shown

Values = Mapping[str, object]
Placed = tuple[Place, Values]


class Shape(NamedTuple):
    """`needs`: columns that a record of it has; `makes`: those of ours, of a record's."""

    title: str
    needs: frozenset[str]
    makes: Callable[[Place, Values], Values]


@dataclass(frozen=True)
class _Renamed:
    """Columns under the names that we have for them."""

    names: tuple[tuple[str, str], ...]

    def __call__(self, place: Place, values: Values) -> Values:
        return {ours: values.get(theirs) for theirs, ours in self.names}


#: Alpaca's own words (Taori et al. 2023), with and without something that the instruction is about.
ALPACA = (
    "Below is an instruction that describes a task{about}. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n{input}### Response:\n"
)
ABOUT = ", paired with an input that provides further context"


def _instruction(place: Place, values: Values) -> Values:
    asked, about = values.get("instruction"), values.get("input", values.get("context")) or ""
    answer = values.get("output", values.get("response"))
    for name, found in (("instruction", asked), ("input", about), ("output", answer)):
        if not isinstance(found, str):
            raise place.bad(f"`{name}`", got=shown(found), want="a text")
    given = f"### Input:\n{about}\n\n" if about else ""
    prompt = ALPACA.format(about=ABOUT if about else "", instruction=asked, input=given)
    return {"prompt": prompt, "completion": answer}


#: Who speaks, as ShareGPT's files call them.
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
TURN = ("from", "value")


def _conversation(place: Place, values: Values) -> Values:
    turns = values["conversations"]
    if not isinstance(turns, list) or not turns:
        raise place.bad("`conversations`", got=shown(turns), want="a list of `from` and `value`")
    return {"messages": [_turn(place, number, turn) for number, turn in enumerate(turns, 1)]}


def _turn(place: Place, number: int, turn: object) -> Values:
    if isinstance(turn, Mapping) and {"role", "content"} <= turn.keys():
        return turn
    if not (isinstance(turn, Mapping) and set(TURN) <= turn.keys()):
        raise place.bad(f"turn {number} of `conversations`", got=shown(turn), want="`from` and `value`")
    speaker = turn["from"]
    if not (isinstance(speaker, str) and speaker in SPEAKERS):
        known = ", ".join(SPEAKERS)
        raise place.bad(f"who speaks in turn {number}", got=f"`{shown(speaker)}`", want=f"one of {known}")
    return {"role": SPEAKERS[speaker], "content": turn["value"]}


def _translation(place: Place, values: Values) -> Values:
    pair = values["translation"]
    if not isinstance(pair, Mapping) or len(pair) != 2:
        raise place.bad("`translation`", got=shown(pair), want="two languages; name them with `--map`")
    source, target = pair.values()
    return {"source": source, "target": target}


def _shape(title: str, **names: str) -> Shape:
    return _of(title, names)


def _of(title: str, names: Mapping[str, str]) -> Shape:
    return Shape(title, frozenset(names), _Renamed(tuple(names.items())))


#: In the order in which they are tried; the first that the first record has.
SHAPES = (
    Shape("ShareGPT's conversations", frozenset({"conversations"}), _conversation),
    Shape("Alpaca's instructions, in Alpaca's words", frozenset({"instruction", "output"}), _instruction),
    Shape("Dolly's instructions, in Alpaca's words", frozenset({"instruction", "response"}), _instruction),
    Shape("pairs of translations", frozenset({"translation"}), _translation),
    _shape("paired answers", question="prompt", response_j="chosen", response_k="rejected"),
    _shape("pairs of sentences", sentence1="text", sentence2="text_pair"),
    _of("pairs of sentences, as MRPC's", {"#1 String": "text", "#2 String": "text_pair", "Quality": "label"}),
    _shape("premises and hypotheses", premise="text", hypothesis="text_pair"),
    _shape("pairs of questions", question1="text", question2="text_pair"),
    _shape("questions and sentences", question="text", sentence="text_pair"),
    _shape("sentences with labels", sentence="text", label="label"),
    _shape("texts with labels", text="text", labels="label"),
    _shape("tokens with tags", tokens="words", ner_tags="tags"),
    _shape("tokens with tags", tokens="words", pos_tags="tags"),
    _shape("tokens with tags", tokens="words", tags="tags"),
    _shape("tokens with tags", tokens="words", labels="tags"),
    _shape("documents with summaries", document="source", summary="target"),
    _shape("articles with highlights", article="source", highlights="target"),
    _shape("dialogues with summaries", dialogue="source", summary="target"),
    _shape("texts with summaries", text="source", summary="target"),
    _shape("questions with answers", question="prompt", answer="completion"),
    _shape("prompts with responses", prompt="prompt", response="completion"),
    _shape("questions with responses", question="prompt", response="completion"),
    _shape("inputs with outputs", input="prompt", output="completion"),
    _shape("images with labels", img="image", label="label"),
    _shape("audio with sentences", audio="audio", sentence="text"),
)
#: Columns by which our own tasks take a record as it is.
OWN = (
    {"messages"}, {"prompt", "completion"}, {"prompt", "chosen", "rejected"}, {"text", "label"}, {"words", "tags"},
    {"question", "context", "answers"}, {"source", "target"}, {"image", "label"}, {"input_features", "text"},
    {"audio", "text"},
)  # fmt: skip


def shaped(rows: Iterator[Placed]) -> tuple[Iterator[Placed], tuple[str, ...]]:
    """Rows with the columns of our tasks, where the first has a shape that is known; and what it is called.

    What a shape doesn't use stays. Raises `BadRecord` for a record that lacks what the first has.
    """
    first = next(rows, None)
    if first is None:
        return rows, ()
    found = shape_of(first[1])
    every = chain([first], rows)
    if found is None:
        return every, ()
    made = ", ".join(f"`{name}`" for name in found.makes(*first) if name not in found.needs)
    said = f"the columns {named(sorted(found.needs))} are known as {found.title}" + (
        f", read as {made}" if made else ""
    )
    return (_made(found, *row) for row in every), (said,)


def shape_of(values: Values) -> Shape | None:
    """The shape of a record, None where our tasks take it as it is, or nobody knows it."""
    if any(own <= values.keys() for own in OWN):
        return None
    return next((shape for shape in SHAPES if shape.needs <= values.keys()), None)


def _made(shape: Shape, place: Place, values: Values) -> Placed:
    if not shape.needs <= values.keys():
        lacking = ", ".join(f"`{name}`" for name in sorted(shape.needs - values.keys()))
        raise place.bad(f"{lacking} is missing, which the first record has", hint=f"the record has {named(values)}")
    made = shape.makes(place, values)
    return place, {**made, **{name: v for name, v in values.items() if name not in shape.needs and name not in made}}
