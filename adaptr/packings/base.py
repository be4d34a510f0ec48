"""What a plugin for packed checkpoints supplies: which tensors make which weight, and what the configuration says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from adaptr.errors import CheckpointError, shown
from adaptr.format.header import Entry
from adaptr.packings.codec import Codec
from adaptr.untrusted import json_object

#: Bytes of a tensor that says how others are read.
MOST = 1 << 16


@dataclass(frozen=True)
class Files:
    """The tensors of a checkpoint as they lie, and what is said of them.

    `said`: the `quantization_config`. `dtype`: the model's own float type as safetensors calls it, "" where the
    configuration says none. `read`: the bytes of a small tensor.
    """

    said: Mapping[str, Any]
    dtype: str
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[str], bytes] = lambda name: b""

    @cached_property
    def modules(self) -> Mapping[str, Mapping[str, Entry]]:
        """Path to its tensors by the last part of their names."""
        found: dict[str, dict[str, Entry]] = {}
        for name, entry in self.entries.items():
            path, _, leaf = name.rpartition(".")
            found.setdefault(path, {})[leaf] = entry
        return found

    def document(self, name: str) -> dict[str, Any]:
        """The JSON that a tensor of bytes holds. Raises `CheckpointError`."""
        if self.entries[name].nbytes > MOST:
            raise CheckpointError(f"`{name}`", verb="has", got=f"{self.entries[name].nbytes} bytes", want=f"{MOST}")
        return json_object(self.read(name), f"`{name}`", CheckpointError)

    def count(self, field_: str, default: int | None = None) -> int:
        """A whole number that the configuration says. Raises `CheckpointError` for anything else."""
        found = self.said.get(field_, default)
        if type(found) is not int:
            raise CheckpointError(f"`quantization_config.{field_}`", got=shown(repr(found)), want="a whole number")
        return found


@dataclass(frozen=True)
class Weight:
    """A weight that lies packed. `name`: what the model calls it; `parts`: role to stored tensor; `dtype`: what it is
    written as where it is no longer packed.
    """

    name: str
    parts: Mapping[str, str]
    codec: Codec
    dtype: str


class Packing(ABC):
    """One library's way to store packed weights."""

    #: As `quant_method` of the configuration says it, unless `claims` asks otherwise.
    name: ClassVar[str]

    #: Whether a weight that its model has as (in, out), as Hugging Face's Conv1D, lies packed as (out, in).
    turns: ClassVar[bool] = False

    def claims(self, said: Mapping[str, Any]) -> bool:
        """Whether a `quantization_config` is of this packing."""
        return said.get("quant_method") == self.name

    @abstractmethod
    def weights(self, files: Files) -> Iterator[Weight]:
        """Every packed weight. Raises `CheckpointError` for parts that contradict each other or are missing, and
        `Unsupported` for what is packed in a way that is not known.
        """

    @abstractmethod
    def floated(self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str]) -> Mapping[str, Any]:
        """The `quantization_config` of a checkpoint in which the weights of the modules `floats` are no longer packed,
        or never were (heads and tables that no configuration names are among them), and those of `packed` are. Raises
        `Unsupported` where no configuration can say so.
        """

    def metadata(self, metadata: Mapping[str, str], floats: Collection[str]) -> Mapping[str, str]:
        """The metadata of a file whose weights `floats` are no longer packed."""
        return metadata


def require_parts(weight: Weight, entries: Mapping[str, Entry]) -> None:
    """Raises `CheckpointError` for a part that is missing, or has another dtype or shape than its packing says."""
    for role, (dtypes, shape) in weight.codec.wanted().items():
        name = weight.parts.get(role, "")
        entry = entries.get(name)
        if entry is None:
            raise CheckpointError(
                f"`{weight.name}` is packed as {weight.codec.scheme}, and its `{role}` is not there",
                hint="get the missing tensors, or save it again from the model",
            )
        if entry.dtype not in dtypes or entry.shape != shape:
            raise CheckpointError(
                f"`{name}`, a part of `{weight.name}` packed as {weight.codec.scheme},",
                got=f"{entry.dtype} {list(entry.shape)}",
                want=f"{' or '.join(sorted(dtypes))} {list(shape)}",
                hint="it is damaged, or the configuration is of another checkpoint",
            )
