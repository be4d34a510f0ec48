"""From AdapterHub's folder to an adapter: each method of its configuration, as one of adaptr's."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Base
from adaptr.errors import ConfigMissing, TrainedOtherwise, Unsupported
from adaptr.foreign import NOTHING, Supplied, placing, saving
from adaptr.foreign.beside import USED
from adaptr.foreign.pieces import assembling
from adaptr.foreign.pieces.module import Layer, Module
from adaptr.foreign.stored import contents
from adaptr.foreign.weights import Weights
from adaptr_formats.adapterhub import (
    config,
    factors,
    fusion,
    gates,
    keys,
    models,
    prefix,
    prompt,
    reft,
    setups,
)
from adaptr_formats.adapterhub.base import facts
from adaptr_formats.adapterhub.bottleneck import reading as bottleneck
from adaptr_formats.adapterhub.heads import reading as heads

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces.module import Whole
    from adaptr.host.tree import Block

_READERS = {
    config.BOTTLENECK: bottleneck.read,
    config.LORA: factors.read,
    config.PREFIX: prefix.read,
    config.PROMPT: prompt.read,
    config.REFT: reft.read,
}
#: What UniPELT and MAD-X call their parts.
UNIPELT = {"gated-lora": "lora", "gated-prefix": "prefix", "gated-pfeiffer": "adapter"}
MADX = {"invertible": "invertible", "pfeiffer": "language"}


@dataclass(frozen=True)
class Reading:
    """A folder that is read: what it says, its tensors by their names, and the base, where it is known."""

    said: config.Said
    grouped: keys.Grouped
    tensors: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    base: BaseModel | None
    model: nn.Module | None
    supplied: Supplied

    def modules(self, sort: str) -> list[Module]:
        """The modules that have tensors of a sort."""
        found = self.grouped.of(sort)
        return [self._module(path, found[path]) for path in placing.ordered(found)]

    def _module(self, path: str, slots: Mapping[str, str]) -> Module:
        return Module(path, slots, {slot: self.shapes[key] for slot, key in slots.items()}, self.tensors, self.model)

    def weights(self, why: str) -> Weights:
        """The base's values. Raises `ConfigMissing` saying why the file is not enough."""
        if self.base is None:
            raise ConfigMissing(why, hint="give the base with its weights (`--base`)")
        return Weights(self.base)

    def has(self, name: str) -> bool:
        """Whether the base has a parameter of that name."""
        return any(name == one or name.endswith(f".{one}") or one.endswith(f".{name}") for one in self.shaped)

    @property
    def shaped(self) -> Mapping[str, tuple[int, ...]]:
        return {} if self.model is None else {name: tuple(p.shape) for name, p in self.model.named_parameters()}


def read(weights: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
    """The adapter in a folder. Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do."""
    from adaptr.checkpoint.skeleton import skeleton

    said = config.Said.beside(weights)
    tensors, shapes, metadata = contents(weights)
    model = None if base is None else skeleton(base)
    _require_known(said, str(weights))
    if config.REFT not in said.parts:
        supplied.refuse("it has no intervention", "reft")
    reading = Reading(said, keys.grouped(shapes), tensors, shapes, base, model, supplied)
    head = heads.read(weights.parent, base, model)
    found = list(_layers(reading))
    methods = {one.method for one in found if isinstance(one, Layer)}
    if methods & set(UNIPELT) and saving.ABOUT not in metadata:
        gates.warn(str(weights))
    called = next((names for names in (UNIPELT, MADX) if methods == set(names)), {})
    called = {**called, heads.METHOD: heads.PART}
    made = assembling.adapter([*found, *head.found], tensors, str(weights), saving.told(metadata), called)
    reading.grouped.require_read()
    return _told(_arranged(made), said, model, head)


def _require_known(said: config.Said, name: str) -> None:
    """Raises `Unsupported` for a type of model that its library makes another of."""
    if said.model_type == models.EMPTIED:
        raise Unsupported(
            "AdapterHub takes the language adapters of X-MOD out of the model, and this one was trained without them",
            hint="keep it where it was trained",
        )
    if said.model_type == models.BIASED:
        warnings.warn(
            f"`{name}`: AdapterHub has a bias in DeBERTa's `in_proj`, which it draws at random at each load and does "
            "not save: the model is read without it",
            TrainedOtherwise,
            stacklevel=4,
        )


def arrangement(path: Path, base: BaseModel | None, supplied: Supplied) -> Adapter:
    """The adapters of a set-up, or a fusion with those beside it, as one."""
    from adaptr.checkpoint.skeleton import skeleton

    model = None if base is None else skeleton(base)
    return setups.read(
        path, lambda file: read(file, base, supplied), lambda file, members: fusion.read(file, members, model)
    )


def block(path: Path, base: BaseModel | None, supplied: Supplied) -> Block:
    """The block of a set-up."""
    from adaptr.checkpoint.skeleton import skeleton
    from adaptr_formats.adapterhub import blocks

    model = None if base is None else skeleton(base)
    return blocks.read(
        path, lambda file: read(file, base, supplied), lambda file, members: fusion.read(file, members, model)
    )


def _layers(reading: Reading) -> Iterator[Layer | Whole]:
    for kind, one in reading.said.parts.items():
        yield from _READERS[kind](reading, one)


def _arranged(adapter: Adapter) -> Adapter:
    """What is a method by a name of its own, by that."""
    said = {name: part.config for name, part in adapter.parts.items()}
    if set(said) == {"parallel", "prefix"}:
        sizes = {"tokens": said["prefix"]["tokens"], "m": said["parallel"]["m"], "s": said["parallel"]["s"]}
        return adapter.replace(method="mam", config=sizes)
    if set(said) == set(UNIPELT.values()):
        sizes = {"m": said["adapter"]["m"], "r": said["lora"]["r"], "tokens": said["prefix"]["tokens"]}
        return adapter.replace(method="unipelt", config={**sizes, "of": gates.OF})
    if set(said) == set(MADX.values()):
        sizes = {"m": said["language"]["m"], "reduction": said["invertible"]["reduction"]}
        return adapter.replace(method="mad-x", config=sizes)
    return adapter


def _told(adapter: Adapter, said: config.Said, model: nn.Module | None, head: heads.Head) -> Adapter:
    """With what the configuration says and an adapter has no field for, for the way back."""
    name = said.whole.get("model_name")
    base = adapter.base or Base()
    if isinstance(name, str) and name and not base.id:
        base = dataclasses.replace(base, id=name)
    if head.ties:
        base = dataclasses.replace(base, ties=head.ties)
    kept: dict[str, Any] = {"config": dict(said.whole), **({} if model is None else {"base": facts(model)})}
    kept |= {USED: list(head.files), "head": {"class": head.of, "config": dict(head.said)}} if head.files else {}
    return adapter.replace(base=base, foreign={"adapterhub": kept})
