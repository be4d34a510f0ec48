"""Rows of several lengths as one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from adaptr.tasks.base import Batch, Example

#: What has no loss, to transformers.
IGNORED = -100
#: Texts that go through a tokenizer at once.
MANY = 512

Item = TypeVar("Item")


def padded(examples: Sequence[Example], pads: Mapping[str, int]) -> Batch:
    """Lists under the names of `pads`, filled up at the right with what it says: [examples, longest]. With a mask of
    what is not filling, [examples, longest], where `input_ids` are among them.
    """
    found = {name: _rows([example[name] for example in examples], pad) for name, pad in pads.items()}
    if "input_ids" in found:
        found["attention_mask"] = _rows([[1] * len(_ids(one)) for one in examples], 0)
    return found


def _ids(example: Example) -> list[int]:
    ids: list[int] = example["input_ids"]  # type: ignore[assignment]
    return ids


def _rows(rows: Sequence[object], pad: int) -> Tensor:
    import torch

    lists: list[list[int]] = rows  # type: ignore[assignment]
    longest = max(map(len, lists))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in lists], dtype=torch.long)


def batches(items: Iterable[Item], size: int = MANY) -> Iterator[list[Item]]:
    """As many as `size` at a time."""
    left = iter(items)
    while found := list(islice(left, size)):
        yield found
