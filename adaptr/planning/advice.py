"""Which method to take: filtered by facts, ranked by rules that are said with their sources."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptr import plugins
from adaptr.planning.estimate import Candidate, Estimate, Setting
from adaptr.planning.foundation import Foundation
from adaptr.planning.machines import Card, largest

#: Bits that a trained number holds, as measured for whole models: Allen-Zhu and Li 2024, arXiv:2404.05405.
BITS_A_NUMBER = 2
#: Bits that a token of text teaches at most: its loss, of that order; Schulman et al. 2025, "LoRA Without Regret".
BITS_A_TOKEN = 1
RULE = (
    f"A trained number holds about {BITS_A_NUMBER} bits (arXiv:2404.05405), and a token of an example teaches about "
    f"{BITS_A_TOKEN} at the most: a bound on what is too little, no promise of what is learnt."
)
#: Tasks of a recipe by other words that people have for them.
TASKS = {"classification": "classify", "regression": "regress", "tagging": "tag", "generation": "lm", "chat": "lm"}
#: The tasks of a recipe.
ALL_TASKS = ("lm", "classify", "regress", "tag", "qa", "seq2seq", "speech", "image")


@dataclass(frozen=True)
class Wishes:
    """`memory`: bytes of the card. `examples`: how many there are to learn from."""

    memory: int | None = None
    no_latency: bool = False
    swappable: bool = False
    examples: int | None = None
    task: str = "lm"

    @property
    def any(self) -> bool:
        return self.memory is not None or self.no_latency or self.swappable or self.examples is not None


@dataclass(frozen=True)
class Advice:
    """`fits`: whether nothing is against it. `reasons`: for or against, each with what it comes from. `line`: the
    command to go on with; "" where it doesn't fit.
    """

    method: str
    held: str
    fits: bool
    reasons: tuple[str, ...]
    batch: int
    line: str


def advise(base: Foundation, candidates: Sequence[Candidate], setting: Setting, wishes: Wishes) -> list[Advice]:
    """Those that fit, best first, then those that don't."""
    found = [(_rank(one, setting, wishes), _advice(base, one, setting, wishes)) for one in candidates]
    return [advice for _, advice in sorted(found, key=lambda pair: (not pair[1].fits, pair[0], pair[1].method))]


def _advice(base: Foundation, one: Candidate, setting: Setting, wishes: Wishes) -> Advice:
    against = list(_against(one, wishes))
    held, batch = _held(one, setting, wishes)
    if wishes.memory is not None and not batch:
        least = one.memory(_quantised(dataclasses.replace(setting, batch=1, checkpointing=True))).peak
        against.append(f"needs {least / 2**30:.1f} GiB at the least, in nf4 with one text and checkpointing")
    reasons = tuple(against or _for(one, setting, wishes))
    line = "" if against else _line(base, one, held, wishes)
    return Advice(one.method, _name(held), not against, reasons, batch, line)


def _against(one: Candidate, wishes: Wishes) -> list[str]:
    can = plugins.method(one.method).can
    found = []
    if wishes.no_latency and not one.merges:
        found.append("can't be merged, so every token pays for it")
    if wishes.swappable and not can.row:
        found.append("can't be one row of a batch among other adapters")
    return found


def _held(one: Candidate, setting: Setting, wishes: Wishes) -> tuple[Setting, int]:
    """How the base is held so that a text fits at all, the plainest way first; and the largest batch then."""
    checked = dataclasses.replace(setting, checkpointing=True)
    for way in (setting, checked, _quantised(setting), _quantised(checked)):
        batch = _largest(one, way, wishes.memory)
        if batch:
            return dataclasses.replace(way, batch=min(batch, max(setting.batch, 1))), batch
    return setting, 0


def _quantised(setting: Setting) -> Setting:
    return dataclasses.replace(setting, base_quant="nf4", double_quant=True)


def _largest(one: Candidate, setting: Setting, memory: int | None) -> int:
    if memory is None:
        return setting.batch
    room = Card("", memory).room
    return largest(room, lambda batch: one.memory(dataclasses.replace(setting, batch=batch)).peak)


def _name(setting: Setting) -> str:
    held = "nf4" if setting.base_quant == "nf4" else setting.dtype
    return f"{held}, checkpointing" if setting.checkpointing else held


# ---------------------------------------------------------------- what speaks for a method


def _bits(one: Candidate, setting: Setting, wishes: Wishes) -> tuple[float, float]:
    """(what its numbers can hold, what the data can teach), at most."""
    return BITS_A_NUMBER * one.counts.trained, BITS_A_TOKEN * (wishes.examples or 0) * setting.length


def _rank(one: Candidate, setting: Setting, wishes: Wishes) -> tuple[Any, ...]:
    """Fewer is better: too few numbers for the data, quantised or checkpointed, no factors that servers know, work. Of
    those with factors comes first what is taken where no method is named.
    """
    method = plugins.method(one.method)
    can, other = method.can, not (method.can.factors and method.default_for)
    holds, teaches = _bits(one, setting, wishes)
    way, _ = _held(one, setting, wishes)
    found = one.estimate(dataclasses.replace(way, batch=1))
    changed = (way.base_quant != "none") + way.checkpointing
    plain = can.factors + one.merges + can.row
    return holds < teaches, not can.learns, changed, -plain, other, round(found.overhead.share, 2), one.counts.trained


def _for(one: Candidate, setting: Setting, wishes: Wishes) -> list[str]:
    can = plugins.method(one.method).can
    found = one.estimate(setting)
    said = [
        "merges, and costs nothing then" if one.merges else _cost(found),
        "each row of a batch can have another one" if can.row else "",
        "servers compute its factors together" if can.factors else "",
        _data(one, setting, wishes),
    ]
    if not can.identity:
        said.append("a fresh one changes the model")
    return [one for one in said if one]


def _cost(found: Estimate) -> str:
    longer = f", {found.overhead.context} positions more" if found.overhead.context else ""
    return f"stays beside the model: {100 * found.overhead.share:.1f} % more work a token{longer}"


def _data(one: Candidate, setting: Setting, wishes: Wishes) -> str:
    if wishes.examples is None:
        return ""
    holds, teaches = _bits(one, setting, wishes)
    verdict = "room for" if holds >= teaches else "too little for"
    return f"{holds / 1e6:.3g} Mbit in its numbers, {verdict} {teaches / 1e6:.3g} of data"


# ---------------------------------------------------------------- the way on


def _line(base: Foundation, one: Candidate, setting: Setting, wishes: Wishes) -> str:
    """A command that is ready but for the names of files."""
    words = ["adaptr", "train", base.name or "BASE", "--method", one.method]
    words += [w for name, value in one.config.items() for w in ("--set", f"{name}={value}")]
    spec = [one.targets] if isinstance(one.targets, str) else one.targets or []
    words += [w for target in spec for w in ("--targets", target)]
    options: Mapping[str, Any] = {
        "--task": wishes.task,
        "--batch": setting.batch,
        "--length": setting.length,
        "--dtype": setting.dtype,
        "--base-quant": "nf4" if setting.base_quant == "nf4" else None,
        "--optimizer": None if setting.optimizer == "adamw" else setting.optimizer,
    }
    words += [w for name, value in options.items() if value is not None for w in (name, str(value))]
    words += ["--double-quant"] if setting.double_quant else []
    words += ["--checkpointing"] if setting.checkpointing else []
    return shlex.join([*words, "--data", "data.jsonl", "-o", f"{one.method}.safetensors"])
