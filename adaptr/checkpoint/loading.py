"""What `from_pretrained` makes of a checkpoint's tensors: which parameter each is read into, and how."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint.open import Checkpoint
from adaptr.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn
    from transformers.core_model_loading import WeightConverter


@dataclass(frozen=True)
class Conversion:
    """Stored tensors that become other parameters as the model is loaded: joined, cut apart, turned or stacked."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    steps: tuple[Any, ...]
    patterns: tuple[str, ...] = ()

    @property
    def experts(self) -> list[list[str]]:
        """Where experts are stacked, (expert, rows, columns): what each is made of, along its rows. Else nothing."""
        from adaptr.host.experts import is_stacking, numbered

        if not is_stacking(self.steps):
            return []
        found: dict[int, dict[int, str]] = {}
        for source in self.sources:
            place = numbered(self.patterns, source)
            if place is not None:
                found.setdefault(place[0], {})[place[1]] = source
        whole = all(len(found.get(e, ())) == len(self.patterns) for e in range(len(found)))
        return [[found[e][part] for part in sorted(found[e])] for e in range(len(found))] if whole else []

    @property
    def cut(self) -> bool:
        """Whether one tensor's rows become several parameters of the same size, in the order of `targets`."""
        names = [(type(step).__name__, getattr(step, "dim", None)) for step in self.steps]
        return len(self.sources) == 1 and len(self.targets) > 1 and names == [("Chunk", 0)]

    def __str__(self) -> str:
        steps = ", ".join(type(step).__name__ for step in self.steps)
        return f"`{self.sources[0]}`{' and others' if len(self.sources) > 1 else ''}, by {steps}"


@dataclass(frozen=True)
class Loading:
    """The model that a checkpoint is of, without weights, and where its parameters come from.

    `files`: parameter to the stored tensors that are read into it as they are, of which there should be one.
    `conversions`: parameter to what makes it.
    """

    model: nn.Module
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conversions: Mapping[str, Conversion] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """Stored tensor to the parameter that it is read into as it is."""
        return {name: live for live, names in self.files.items() for name in names}


def loading(checkpoint: Checkpoint) -> Loading | None:
    """How transformers reads a checkpoint, None where it does not know the model."""
    if not checkpoint.config.get("architectures") or importlib.util.find_spec("transformers") is None:
        return None
    from adaptr.checkpoint.skeleton import skeleton
    from adaptr.host.spellings import spellings_of

    try:
        model = skeleton(checkpoint.root)
    except CheckpointError:
        return None
    spellings = spellings_of(model)
    files: dict[str, tuple[str, ...]] = {}
    made: dict[str, tuple[Any, list[str]]] = {}
    for stored in sorted(checkpoint.tensors):
        live, conversion = spellings.read(stored)
        if conversion is None:
            files[live] = (*files.get(live, ()), stored)
        else:
            made.setdefault(live, (conversion, []))[1].append(stored)
    found = [_conversion(live, conversion, sources) for live, (conversion, sources) in made.items()]
    return Loading(model, files, {live: one for one in found for live in one.targets})


def _conversion(live: str, how: WeightConverter, sources: list[str]) -> Conversion:
    first, *others = how.target_patterns
    targets = (live, *(live.replace(first, pattern) for pattern in others))
    return Conversion(tuple(sources), targets, tuple(how.operations), tuple(how.source_patterns))
