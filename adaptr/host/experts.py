"""Stacks of experts: (expert, out, in) parameters, and adapters that name each expert's layers alone.

transformers 4 had a layer for each matrix of each expert, and checkpoints still do; transformers 5 stacks them as it
loads. An adapter of such a layer works on its rows of its expert, found by transformers' own list of what is stacked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from torch import Tensor, nn

from adaptr.adapter import Target
from adaptr.contract import View
from adaptr.contract.view import of_weight
from adaptr.errors import TargetMismatch, Unsupported
from adaptr.host.spellings import spellings_of
from adaptr.targets import submodule

if TYPE_CHECKING:
    from adaptr.host.state import State


class Part(NamedTuple):
    """`rows` of expert `number` in the stack at `path`."""

    path: str
    number: int
    rows: slice


def is_stacking(steps: Sequence[Any]) -> bool:
    """Whether loading puts experts behind each other as (expert, rows, columns), some of several tensors' rows."""
    names = [(type(step).__name__, getattr(step, "dim", None)) for step in steps]
    return names in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)])


def numbered(patterns: Sequence[str], name: str) -> tuple[int, int] | None:
    """(expert, which of the patterns) of a stored tensor."""
    for part, pattern in enumerate(patterns):
        found = re.search(re.escape(pattern).replace(r"\*", r"(\d+)"), name)
        if found is not None and found.groups():
            return int(found[1]), part
    return None


def part_of(model: nn.Module, target: Target) -> Part | None:
    """Where a model holds a layer of one expert, if it does so in a stack. Raises `TargetMismatch` for other sizes."""
    if target.kind != "linear" or not re.search(r"\.\d+\.", target.path) or _has(model, target.path):
        return None
    name = f"{target.path}.weight"
    path, how = spellings_of(model).read(name)
    place = numbered(how.source_patterns, name) if how is not None and is_stacking(how.operations) else None
    stack = _parameter(model, path) if place is not None else None
    if place is None or stack is None:
        return None
    number, part = place
    size = stack.shape[1] // len(how.source_patterns)
    if number >= len(stack) or target.shape not in ((size, stack.shape[2]), (size, 0), (0, stack.shape[2])):
        raise TargetMismatch(
            f"`{target.path}` is expert {number} of `{path}`, which",
            verb="has",
            got=f"{len(stack)} of shape {(size, stack.shape[2])} in the base",
            want=f"{target.shape} by the adapter",
            hint="give the base that it was trained on",
        )
    return Part(path, number, slice(part * size, (part + 1) * size))


def _has(model: nn.Module, path: str) -> bool:
    try:
        return submodule(model, path) is not None
    except AttributeError:
        return False


def _parameter(model: nn.Module, path: str) -> Tensor | None:
    owner, _, name = path.rpartition(".")
    return submodule(model, owner)._parameters.get(name) if _has(model, owner) else None


def parameter_of(state: State) -> str:
    """The name of the parameter that a state is on, in its module."""
    return (state.part.path if state.part is not None else state.target.path).rpartition(".")[2]


def refuse_bias(state: State, weight: Tensor | None) -> None:
    """Raises `Unsupported` for what is added to a bias where there is none."""
    if weight is not None and state.method.view(of_weight(weight), state, state.cfg, 1.0).bias is not None:
        raise Unsupported(
            f"`{state.target.path}`: `{state.method.name}` changes a bias here, and there is none to change",
            hint="train it without (`bias=False`)",
        )


def experts_value(module: nn.Module, name: str) -> Tensor:
    """The adapted value of a raw parameter of `module`, as stored."""
    parameter = cast(Tensor, module._parameters[name])
    states = [cast(Any, s) for s in cast(nn.ModuleDict, module.adapters).values()]
    mine = [state for state in states if parameter_of(state) == name]
    transposed = next((state.target.transposed for state in mine if state.part is None), False)
    view = of_weight(parameter.transpose(1, 2) if transposed else parameter)
    for state in mine:
        view = (
            state.method.view(view, state, state.cfg, state.strength) if state.part is None else _in_part(view, state)
        )
    value = view.weight.to(parameter.dtype)
    return value.transpose(1, 2) if transposed else value


def _in_part(view: View, state: State) -> View:
    """The stack `view` with an adapter on some rows of one expert."""
    part, stack = cast(Part, state.part), view.weight
    own = state.method.view(of_weight(stack[part.number, part.rows]), state, state.cfg, state.strength).weight
    changed = stack.clone()
    changed[part.number, part.rows] = own.to(stack.dtype)
    return of_weight(changed)
