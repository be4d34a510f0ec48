"""What training is made of, as methods say it (decision 0018): phases, groups of parameters, forwards of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

#: One forward of the batch at hand: its loss, and what the model put out. Each call is a forward of its own.
Run = Callable[[], "tuple[Tensor, Any]"]
#: The field of a configuration that says that training is over; tensors are `unless` it where they are for training.
FINISHED = "finished"
#: How the keys of a session's memory end that say which entries of a tensor learn.
MASK = ".mask"

#: What a trainer says of a forward (`p.context.said`): for each row the number of its task among `Training.sources`,
#: which a record says by name in a column of its own.
TASKS, TASK = "tasks", "task"


class Phase(NamedTuple):
    """A part of training with an optimiser of its own. `share`: of all the steps."""

    name: str
    share: float = 1.0


class Group(NamedTuple):
    """What an optimiser gets together. `rate`, `decay`: factors of the trainer's own rate and decay."""

    params: Sequence[nn.Parameter]
    rate: float = 1.0
    decay: float = 1.0


def phase_at(phases: Sequence[Phase], done: float) -> int:
    """The number of the phase in which training is when a share `done` of its steps, below 1, has been taken."""
    total, end = sum(phase.share for phase in phases), 0.0
    for number, phase in enumerate(phases):
        end += phase.share / total
        if done < end - 1e-9:
            return number
    return len(phases) - 1
