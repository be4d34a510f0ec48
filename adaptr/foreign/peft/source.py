"""What a PEFT folder holds: its configuration, and its tensors mapped on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, ConfigMissing, NoAdapterTensors, phrases
from adaptr.foreign import saving
from adaptr.foreign.detect import require_matrices
from adaptr.foreign.peft import keys, listed, told, types
from adaptr.foreign.seen import CONFIG, config_of
from adaptr.foreign.stored import contents
from adaptr.foreign.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.foreign.format import BaseModel


@dataclass(frozen=True)
class Source:
    """A PEFT adapter as it is stored. `shapes`: of all tensors, by key, without loading them. `about`: what adaptr
    wrote into it, as fields of an adapter; `told`: what others did. `weights`: the base's. `task`: which of its
    tasks is meant, None where nobody said. `begun`: the same adapter before training, where it was given.
    """

    path: Path
    type: types.PeftType
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    keys: tuple[keys.Key, ...]
    about: Mapping[str, Any]
    told: Mapping[str, Any]
    weights: Weights | None = None
    task: int | None = None
    begun: Source | None = None

    def embeddings(self) -> tuple[str, tuple[int, ...]]:
        """Key and shape of the virtual tokens, two axes. Raises `NoAdapterTensors` or `ConfigConflict`."""
        found = next((key.source for key in self.keys if key.slot == keys.PROMPT), None)
        if found is None:
            raise NoAdapterTensors(
                f"`{self.path}` has no `{keys.PROMPT}`, which {self.config['peft_type']} stores", hint=phrases.AGAIN
            )
        shape = self.shapes[found]
        if len(shape) != 2:
            raise ConfigConflict(f"`{found}`", verb="has", got=f"shape {shape}", want="two axes", hint=phrases.AGAIN)
        return found, shape


def read(weights: Path, base: BaseModel | None = None, task: int | None = None, begun: Path | None = None) -> Source:
    """Open the adapter in a file, for `base`. Tensors stay on the disk until asked for, except in a `.bin`."""
    config = config_of(weights.parent)
    tensors, shapes, metadata = contents(weights)
    if not shapes and (config or {}).get("peft_type") not in listed.LOST:
        raise NoAdapterTensors(f"`{weights}` holds no tensor at all", hint=phrases.AGAIN)
    require_matrices(shapes, weights)  # whatever the configuration says
    if config is None:
        raise ConfigMissing(
            f"`{weights}` has no `{CONFIG}` beside it, and its tensors don't say how to use them",
            hint=f"put its `{CONFIG}` there",
        )
    if not isinstance(config.get("peft_type"), str):
        raise ConfigMissing(
            f"`{weights.parent / CONFIG}` has no `peft_type`, so nothing says what the tensors mean", hint=phrases.AGAIN
        )
    kind = types.of_type(config["peft_type"], config)
    return Source(
        weights,
        kind,
        config,
        tensors,
        shapes,
        tuple(keys.read(shapes, types.slots(kind), kind.prompt)),
        saving.told(metadata),
        told.beside(weights.parent, metadata),
        None if base is None else Weights(base),
        task,
        None if begun is None else read(begun),
    )
