"""What a reader makes of a PEFT file before it is an adapter: targets, and where each tensor is in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Part, Target

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.format.io import Stored


@dataclass(frozen=True)
class Piece:
    """One of an adapter's tensors inside a tensor of a file.

    The file's tensor is viewed as `view`, then entry `index` of its axis 1 is taken if `index` is not None, then axes
    are put in `order`, `then` is done to it, and the result has `shape`. `value` stands for a tensor that no file has.
    """

    source: str
    shape: tuple[int, ...]
    view: tuple[int, ...] = ()
    index: int | None = None
    order: tuple[int, ...] = ()
    then: Callable[[Tensor], Tensor] | None = None
    value: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether it is the file's tensor byte for byte; its shape may be another."""
        return self.index is None and not self.order and self.then is None and self.value is None

    def take(self, tensor: Tensor) -> Tensor:
        if self.view:
            tensor = tensor.reshape(self.view)
        if self.index is not None:
            tensor = tensor[:, self.index]
        if self.order:
            tensor = tensor.permute(self.order)
        if self.then is not None:
            tensor = self.then(tensor)
        return tensor.reshape(self.shape).contiguous()


@dataclass(frozen=True)
class Draft:
    """An adapter's method, targets and pieces (by adaptr's key).

    `rewritten`: fields of the file's configuration that no longer say what the tensors are, with what is true now.
    `parts`: of a stack, the methods that it is made of. `ties`: parameters that the file shows to be one.
    """

    method: str
    config: Mapping[str, Any]
    targets: Mapping[str, Target]
    pieces: dict[str, Piece] = field(default_factory=dict)
    rewritten: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    ties: tuple[tuple[str, ...], ...] = ()


def resized(draft: Draft, sizes: Mapping[str, Any]) -> Draft:
    """With what only the file's tensors say of all targets, in their configurations."""
    targets = {path: replace(one, config={**one.config, **sizes}) for path, one in draft.targets.items()}
    return replace(draft, config={**draft.config, **sizes}, targets=targets)


class Pieces(Mapping[str, "Tensor"]):
    """The tensors of a draft, cut out of the file when asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], pieces: Mapping[str, Piece]) -> None:
        self.tensors, self.pieces = tensors, pieces

    def __getitem__(self, key: str) -> Tensor:
        piece = self.pieces[key]
        return piece.take(self.tensors[piece.source] if piece.value is None else piece.value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)

    def __contains__(self, key: object) -> bool:
        return key in self.pieces

    @property
    def sources(self) -> dict[str, str]:
        """The file's key of each tensor."""
        return {key: piece.source for key, piece in self.pieces.items() if piece.source}

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, without loading it."""
        return self.pieces[key].shape

    def stored(self, key: str) -> Stored | None:
        """Dtype, shape and bytes where they are the file's as they lie there, None where something is done to them."""
        piece, look = self.pieces[key], getattr(self.tensors, "stored", None)
        if look is None or not piece.plain:
            return None
        dtype, _, data = look(piece.source)
        return dtype, piece.shape, data
