"""What a model is worth at a moment of its training: the base before, base and adapter after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptr import evaluating
from adaptr.evaluating import Answered
from adaptr.tasks.texts import room
from adaptr.training.generators import kept_generators
from adaptr.training.learning import Examples
from adaptr.training.recipe import Recipe
from adaptr.training.report import Sample
from adaptr.training.watching import Watcher

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Worth:
    """`figures` on the records that are measured on, `second` on the second text, and some answers."""

    figures: Figures
    second: Figures
    answers: Sequence[Answered]


def worth(model: Any, examples: Examples, recipe: Recipe, watcher: Watcher) -> Worth:
    """Of the model with whatever is attached to it. Changes no draw of what comes later."""
    given, tools, limits = examples.given, examples.tools, examples.limits
    with kept_generators():
        found = evaluating.measure(
            model, given.task, given.measured, tools, limits, batch=recipe.batch, progress=watcher.measures
        )
        answers = evaluating.answers(model, given.task, given.measured[: recipe.samples], tools, limits)
        second: Figures = {}
        if given.second is not None:
            second = evaluating.second(model, given.second.text, tools, room(tools, limits)).values()
    return Worth(found.values(), second, answers)


def samples(examples: Examples, before: Worth, after: Worth) -> tuple[Sample, ...]:
    """The same records answered by both."""
    asked = [_asked(record.values) for record in examples.given.measured]
    rows = zip(asked, before.answers, after.answers, strict=False)
    return tuple(Sample(str(one.place), text, str(one.wanted), one.said, then.said) for text, one, then in rows)


def _asked(values: Mapping[str, object]) -> str:
    """What a record asks, as people read it."""
    found = next((values[name] for name in ("prompt", "messages", "question", "text", "source") if name in values), "")
    if isinstance(found, list):
        return "\n".join(str(one.get("content", "")) for one in found[:-1] if isinstance(one, Mapping))
    return str(found)
