"""The tensors of an adapter at other places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.format.io import Stored


class Renamed(Mapping[str, Any]):
    """The tensors of an adapter under other paths, still read on demand."""

    def __init__(self, tensors: Mapping[str, Tensor], paths: Mapping[str, str]) -> None:
        self.tensors = tensors
        self.names = {_renamed(key, paths): key for key in tensors}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[self.names[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, without loading it where it lies in a file."""
        look, name = getattr(self.tensors, "shape", None), self.names[key]
        return tuple(self.tensors[name].shape) if look is None else look(name)

    def stored(self, key: str) -> Stored | None:
        """Dtype, shape and bytes as they lie in the file, where they do."""
        look = getattr(self.tensors, "stored", None)
        return None if look is None else look(self.names[key])

    @property
    def sources(self) -> dict[str, str]:
        """The key of each tensor in the file it comes from."""
        came = getattr(self.tensors, "sources", {})
        return {new: came.get(old, old) for new, old in self.names.items()}


def _renamed(key: str, paths: Mapping[str, str]) -> str:
    path, colon, name = key.rpartition(":")
    return paths.get(path, path) + colon + name
