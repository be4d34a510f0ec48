"""What a server sees: the folder that it is given as it is, and the base that it serves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint.skeleton import described
from adaptr.errors import ConfigMissing
from adaptr.foreign.seen import CONFIG, config_of
from adaptr.foreign.stored import contents

if TYPE_CHECKING:
    from torch import nn

PREFIX = "base_model.model."
#: What PEFT calls the tensors of an adapter; before it stands the module.
SLOT = re.compile(
    r"(?P<path>.+?)\.(?P<slot>lora_[AB](\.[\w-]+)?\.(weight|bias)|lora_embedding_[AB](\.[\w-]+)?"
    r"|lora_magnitude_vector.*|modules_to_save\..*|token_adapter\..*"
    r"|(base_layer\.)?(weight|bias))"
)
#: What configurations call the number of layers.
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
#: Where those of models of several parts have the language model's.
INNER = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class Stored:
    """A tensor as it is in the file. `path`: the module, without PEFT's prefix."""

    key: str
    shape: tuple[int, ...]
    path: str
    slot: str

    @property
    def name(self) -> str:
        """The last part of the module's name."""
        return self.path.rpartition(".")[2]

    @property
    def parent(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def rank(self) -> int:
        """The rank that the tensor has, 0 for what is no factor."""
        if len(self.shape) != 2 or not self.slot.startswith(("lora_A", "lora_B", "lora_embedding")):
            return 0
        return self.shape["_B" in self.slot]

    @property
    def layer(self) -> int | None:
        """The number of its layer."""
        found = re.search(r"\.(\d+)\.", f"{self.path}.")
        return int(found[1]) if found else None

    @property
    def kind(self) -> str:
        """Its module, whatever the layer's number is."""
        return re.sub(r"\.\d+(?=\.)", ".*", self.path, count=1)


@dataclass(frozen=True)
class Seen:
    """A PEFT folder: its configuration, the shapes of its tensors by key, and the names of its files."""

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    files: frozenset[str] = frozenset()

    @classmethod
    def at(cls, weights: Path) -> Seen:
        """Of the folder with that file of tensors, of which only the header is read."""
        config = config_of(weights.parent)
        if config is None:
            raise ConfigMissing(f"`{weights.parent}` has no `{CONFIG}`", hint="put the adapter's there: servers ask it")
        files = frozenset(file.name for file in weights.parent.iterdir() if file.is_file())
        return cls(config, contents(weights)[1], files)

    def stored(self, strip: str = "once") -> list[Stored]:
        """Its tensors, PEFT's prefix taken off `once`, or wherever it stands (`every`)."""
        return [_stored(key, shape, strip) for key, shape in self.shapes.items()]


def _stored(key: str, shape: tuple[int, ...], strip: str) -> Stored:
    bare = key.replace(PREFIX, "") if strip == "every" and key.startswith(PREFIX) else key.removeprefix(PREFIX)
    found = SLOT.fullmatch(bare)
    return Stored(key, shape, *((found["path"], found["slot"]) if found else (bare, "")))


@dataclass(frozen=True)
class Base:
    """The model that is served. `layers`: how many it has, 0 where its configuration does not say."""

    architecture: str
    layers: int = 0

    @classmethod
    def of(cls, base: nn.Module | str | os.PathLike[str]) -> Base:
        """Of a folder with a `config.json`, or of a live model. Raises `CheckpointError` where it does not say."""
        if isinstance(base, str | os.PathLike):
            config = described(base)
            return cls(str((config.get("architectures") or [""])[0]), _layers(config))
        said: Any = getattr(base, "config", None)
        return cls(type(base).__name__, _layers(said.to_dict() if hasattr(said, "to_dict") else {}))


def _layers(config: Mapping[str, Any]) -> int:
    inner: Iterable[Any] = (config.get(name) for name in INNER)
    for one in (config, *(part for part in inner if isinstance(part, Mapping))):
        found = next((one[name] for name in LAYERS if isinstance(one.get(name), int)), None)
        if found is not None:
            return int(found)
    return 0
