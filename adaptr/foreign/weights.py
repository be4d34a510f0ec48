"""The base's parameters by name, wherever the base is: a live model, or a folder of which only headers are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import TargetNotFound
from adaptr.format.io import open_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.foreign.format import BaseModel


class Weights(Mapping[str, "Tensor"]):
    """Parameter name to value, as the base calls it. `shapes` reads no value; a folder without weights is empty."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        from torch import nn

        if isinstance(self.base, nn.Module):
            return dict(_shapes(self.base))
        return {name: shape for name, (shape, _) in self._found.items()}

    @cached_property
    def _found(self) -> dict[str, tuple[tuple[int, ...], Mapping[str, Tensor]]]:
        from torch import nn

        if isinstance(self.base, nn.Module):
            held: dict[str, Tensor] = self.base.state_dict()
            return {name: (tuple(tensor.shape), held) for name, tensor in held.items()}
        files = [open_tensors(path) for path in _files(Path(self.base))]
        return {name: (entry.shape, file) for file in files for name, entry in file.header.entries.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._found[name][1][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def weight(self, path: str) -> Tensor:
        """The weight of the module that an adapter calls `path`. Raises as `parameter` does."""
        return self.parameter(f"{path}.weight")

    def parameter(self, name: str) -> Tensor:
        """The parameter that an adapter calls `name`; one prefix more or less is understood.

        Raises `TargetNotFound` where there is none, or several.
        """
        ends = [n for n in self if n == name or n.endswith(f".{name}") or name.endswith(f".{n}")]
        exact = name if name in self else ends[0] if len(ends) == 1 else None
        if exact is None or self[exact].is_meta:
            raise TargetNotFound(
                f"the base has no weight `{name}` that can be read",
                hint="give its folder with the weights, or the loaded model",
            )
        return self[exact]


def _files(folder: Path) -> list[Path]:
    """The safetensors of a checkpoint, and no adapter's."""
    return [path for path in sorted(folder.glob("*.safetensors")) if "adapter" not in path.name]


def _shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of what `state_dict` has, without making it: an attach asks."""
    for path, module in model.named_modules(remove_duplicate=False):
        before = f"{path}." if path else ""
        kept = (item for item in module._buffers.items() if item[0] not in module._non_persistent_buffers_set)
        yield from (
            (before + name, tuple(t.shape)) for name, t in (*module._parameters.items(), *kept) if t is not None
        )
