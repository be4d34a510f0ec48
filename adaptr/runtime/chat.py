"""A talk with a model: what was said goes into the next answer, and adapters are switched and weighed between turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptr.errors import Unsupported, UsageError, phrases
from adaptr.runtime import answer
from adaptr.runtime.apply import ready
from adaptr.runtime.stack import stack
from adaptr.sources.given import Several, by_name, opened, several
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adaptr.runtime.answer import Told
    from adaptr.runtime.stack import Stack

#: Who says something.
SYSTEM, USER, MODEL = "system", "user", "assistant"


@dataclass
class Chat:
    """`turns`: what was said, as chat templates have it: {"role", "content"}. `adapters`: those that are on the model,
    by name, each at its weight.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapters: Stack
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    turns: list[dict[str, str]] = field(default_factory=list)

    def say(self, text: str, told: Told | None = None) -> str:
        """What the model answers. Where that is interrupted, what had come by then is kept as its answer."""
        self.turns.append({"role": USER, "content": text})
        come: list[str] = []

        def tell(piece: str) -> None:
            come.append(piece)
            if told is not None:
                told(piece)

        said = ""
        try:
            asked = (self.prompt(), self.max_new_tokens, self.temperature, self.seed + len(self.turns))
            made = answer.generate(self.model, self.tokenizer, *asked, tell, not self.tokenizer.chat_template)
            said = made.text
        finally:
            self.turns.append({"role": MODEL, "content": (said or "".join(come)).strip()})
        return self.turns[-1]["content"]

    def prompt(self) -> str:
        """All that was said, as the tokenizer's template puts it; in lines where it has none."""
        if self.tokenizer.chat_template:
            made = self.tokenizer.apply_chat_template(self.turns, tokenize=False, add_generation_prompt=True)
            return str(made)
        return "\n".join(turn["content"] for turn in self.turns)

    def system(self, text: str) -> None:
        """What the model is told before all else; "" for nothing."""
        rest = [turn for turn in self.turns if turn["role"] != SYSTEM]
        self.turns = [*([{"role": SYSTEM, "content": text}] if text else []), *rest]

    def reset(self) -> None:
        """Forget what was said, not what the model is told before."""
        self.turns = [turn for turn in self.turns if turn["role"] == SYSTEM]

    def only(self, weights: Mapping[str, float | None]) -> None:
        """These adapters answer from now on, at these weights, None for what they have; none of them: the base."""
        strange = next((name for name in weights if name not in self.adapters), None)
        if strange is not None:
            raise phrases.unknown(UsageError, "there is no adapter", strange, [*self.adapters], "there are")
        for name, weight in weights.items():
            if weight is not None:
                self.adapters[name] = weight
        self.adapters.on(*weights)
        self.adapters.off(*(name for name in self.adapters if name not in weights))


@contextmanager
def chat(
    base: Place,
    adapters: Several = (),
    *,
    dtype: str = "auto",
    any_base: bool = False,
    system: str = "",
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[Chat]:
    """A talk with the model at `base`, with `adapters` attached by name: `with adaptr.chat("base", ["style"]) as talk`.

    `system`: what the model is told before all else. `max_new_tokens`: of an answer, at most. `temperature` 0 takes the
    likeliest token; above, tokens are drawn with `seed`. `dtype`: of the base, as `apply` has it. `any_base`: go on
    although an adapter says that it is of another base. Raises what `apply` does, and `Unsupported` for a model that
    does not generate.
    """
    place = resolve(base).path
    given = by_name(several(adapters, least=0))
    read = {name: (opened(each.what, place), each.weight) for name, each in given.items()}
    model, tokenizer, task = ready(place, [adapter for adapter, _ in read.values()], "auto", dtype, any_base)
    if task != "generate":
        raise Unsupported(f"`{base}` names classes and does not talk", hint="`adaptr apply` asks it")
    with stack(model, read) as attached:
        talk = Chat(model, tokenizer, attached, max_new_tokens, temperature, seed)
        talk.system(system)
        yield talk


def weighed(words: Sequence[str]) -> dict[str, float | None]:
    """`style=0.5 tone` as names and weights. Raises `UsageError` for a weight that is no number."""
    found: dict[str, float | None] = {}
    for word in words:
        name, sign, weight = word.partition("=")
        try:
            found[name] = float(weight) if sign else None
        except ValueError:
            raise UsageError(f"the weight `{weight}` of `{name}`", want="a number", got="none") from None
    return found
