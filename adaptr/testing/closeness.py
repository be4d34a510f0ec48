"""How close two results are: of tensors, and of what adapters change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.errors import NoDelta
from adaptr.testing.samples import parts_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Of fp32 results, relative to the largest absolute value.
CLOSE = 1e-5


def tensor_pairs(before: Adapter, after: Adapter) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor as it was and as it is read back, by parts where there are parts."""
    for one, other in zip(parts_of(before), parts_of(after), strict=True):
        for path in one.targets:
            mine, theirs = one.at(path), other.at(path)
            assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in theirs.items()}
            yield from ((mine[name], theirs[name]) for name in mine)


def error_of_change(before: Adapter, after: Adapter) -> float:
    """The largest ‖D' - D‖ / ‖D‖ of a target, dense and in fp64, of its weight or bias; without a delta, the worst of
    the parts, or of the tensors, of scales against 1.
    """
    from adaptr.changes.deltas import deltas

    try:
        was, now = deltas(before), deltas(after)
    except NoDelta:
        if before.parts:
            return max(error_of_change(before.part(name), after.part(name)) for name in before.parts)
        return _of_tensors(before, after)
    weights = [relative(now[path].dense(), was[path].dense()) for path in was]
    shifts = [relative(now.biases[path], was.biases[path]) for path in was.biases]
    return max([*weights, *shifts], default=0.0)


def _of_tensors(before: Adapter, after: Adapter) -> float:
    params = plugins.method(before.method).params
    pairs = [(name, t, after.at(path)[name]) for path in before.targets for name, t in before.at(path).items()]
    pairs = [(name, t, now) for name, t, now in pairs if params[name].trains]
    if all(params[name].init == "ones" for name, _, _ in pairs):
        return max(relative(now - 1, t - 1) for _, t, now in pairs)
    return max(relative(now, t) for _, t, now in pairs)


def relative(after: Tensor, before: Tensor) -> float:
    """‖after - before‖ / ‖before‖."""
    size = float(before.double().norm())
    return float((after.double() - before.double()).norm()) / size if size else 0.0


def assert_close(found: Tensor, wanted: Tensor, to: float = CLOSE) -> None:
    """Equal to `to`, relative to the largest value wanted."""
    scale = max(float(wanted.detach().abs().max()), 1.0)
    worst = float((found.detach() - wanted.detach()).abs().max()) / scale
    assert worst <= to, f"differs by {worst:.2e} of the largest value, wanted at most {to:.0e}"


def bits_equal(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    import torch

    return torch.equal(found, wanted)
