"""What one training costs, before it starts: the numbers that `adaptr plan` and `adaptr train --dry-run` show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from adaptr import plugins
from adaptr.contract import Costs
from adaptr.planning import looking
from adaptr.planning.counts import BYTES, Counts, counted, everything
from adaptr.planning.flow import Flow, Learning, Shape, flow
from adaptr.planning.foundation import Foundation, foundation
from adaptr.planning.memory import Memory, Terms, memory
from adaptr.planning.overhead import Overhead, overhead
from adaptr.planning.structure import Structure, structure
from adaptr.report import Report

if TYPE_CHECKING:
    from adaptr.targets import Spec

#: What full fine-tuning is called beside the methods.
FULL = "full fine-tuning"
#: Tasks whose loss is over the vocabulary.
OVER_VOCABULARY = frozenset({"auto", "lm", "seq2seq", "speech"})


class Facts(Protocol):
    """What an estimate reads of a recipe: the fields of `adaptr.training.recipe.Recipe` of these names."""

    @property
    def base(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def targets(self) -> str | Sequence[str] | None: ...
    @property
    def also(self) -> Sequence[str]: ...
    @property
    def task(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def base_quant(self) -> str: ...
    @property
    def double_quant(self) -> bool: ...
    @property
    def checkpointing(self) -> bool: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class Setting:
    """How it is trained: fields of a recipe, by their names there, with nothing left to `auto`."""

    batch: int = 1
    length: int = 512
    dtype: str = "bf16"
    base_quant: str = "none"
    double_quant: bool = False
    checkpointing: bool = False
    optimizer: str = "adamw"
    device: str = "cuda"
    task: str = "lm"


@dataclass(frozen=True)
class Estimate(Report):
    """One way to train. `stored`: bytes of the artifact's tensors by dtype. `notes`: what was taken for granted."""

    method: str
    config: Mapping[str, Any]
    setting: Setting
    base: int
    trained: int
    changed: int
    numbers: int
    stored: Mapping[str, int]
    memory: Memory
    overhead: Overhead
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the base's parameters, what is trained."""
        return self.trained / self.base

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "share": self.share}


@dataclass(eq=False)
class Candidate:
    """A method on a base, with all that does not depend on how it is trained; `method` is "" for full fine-tuning."""

    base: Foundation
    made: Structure
    method: str
    config: Mapping[str, Any] = field(default_factory=dict)
    targets: Spec = None
    also: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.counts: Counts = (
            counted(self.base, self.method, self.config, self.targets, self.also)
            if self.method
            else everything(self.base)
        )
        self.costs = _by_path(self.counts)
        own = plugins.method(self.method) if self.method else None
        self.merges = own is None or own.merges(own.config(self.config))
        self._flows: dict[tuple[int, str, int], Flow] = {}
        self.silent = [own.name for own, target in self.counts.places if not looking.says(own, target)]

    def estimate(self, setting: Setting) -> Estimate:
        counts = self.counts
        stored = {dtype: counts.stored(dtype) for dtype in BYTES}
        running = overhead(self.made, self.method, self.costs, setting.length, self.merges)
        return Estimate(
            self.method or FULL, dict(self.config), setting, self.made.total, counts.trained, counts.changed,
            counts.floats + counts.integers, stored, self.memory(setting), running, tuple(self.notes),
        )  # fmt: skip

    def memory(self, setting: Setting) -> Memory:
        whole = not self.method
        terms = Terms(
            BYTES[setting.dtype], "none" if whole else setting.base_quant, setting.double_quant,
            setting.checkpointing, setting.optimizer, setting.device, setting.batch,
        )  # fmt: skip
        return memory(self.made, self.counts, self._flow(terms, setting.length), terms, whole, self._logits(setting))

    def _flow(self, terms: Terms, length: int) -> Flow:
        """What a row leaves: the same for batches of all sizes."""
        key = terms.narrow, terms.device, length
        if key not in self._flows:
            shape = Shape(length + self._most("longer"), terms.narrow, terms.device, self._most("columns"))
            learns = Learning(self.costs, frozenset(self.counts.whole), not self.method)
            self._flows[key] = flow(self.base, self.made, learns, shape)
        return self._flows[key]

    def _most(self, what: str) -> int:
        return max((getattr(one, what) for found in self.costs.values() for one in found), default=0)

    def _logits(self, setting: Setting) -> int:
        head = self.made.head
        if head is None or setting.task not in OVER_VOCABULARY:
            return 0
        return setting.batch * (setting.length + self._most("longer")) * head.target.shape[0]

    @property
    def notes(self) -> list[str]:
        return [one for one in (self.base.built, unsaid(self.silent)) if one]


def unsaid(methods: Iterable[str]) -> str:
    """What is told of methods that say no costs, "" of none."""
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(methods))
    return names and f"run on the meta device for what is kept, as they don't say it: {names}"


def candidate(base: Foundation, method: str, **more: Any) -> Candidate:
    return Candidate(base, structure(base), method, **more)


def before(recipe: Facts) -> Estimate:
    """What a training will cost, by its recipe. Raises what creating its adapter would."""
    base = foundation(recipe.base)
    found = candidate(base, recipe.method, config=recipe.config, targets=recipe.targets, also=recipe.also)
    return found.estimate(
        Setting(
            recipe.batch,
            recipe.length,
            _dtype(base, recipe),
            recipe.base_quant,
            recipe.double_quant,
            recipe.checkpointing,
            recipe.optimizer,
            _device(recipe.device),
            recipe.task,
        )
    )


def _device(said: str) -> str:
    if said != "auto":
        return said
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(base: Foundation, recipe: Facts) -> str:
    """The dtype of the forward: as said, else the one that the base is in."""
    if recipe.dtype != "auto":
        return recipe.dtype
    said = str(base.said("dtype", "torch_dtype")).removeprefix("torch.")
    return {"bfloat16": "bf16", "float16": "fp16"}.get(said, "fp32")


def _by_path(counts: Counts) -> dict[str, tuple[Costs, ...]]:
    found: dict[str, list[Costs]] = {}
    for own, target in counts.places:
        found.setdefault(target.path, []).append(looking.costs(own, target))
    return {path: tuple(costs) for path, costs in found.items()}
