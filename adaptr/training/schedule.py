"""Which steps a phase has, and how the learning rate goes over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.contract.lifecycle import Phase, phase_at

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import TrainingArguments

#: What transformers calls the schedules of a recipe, where it calls them otherwise.
CALLED = {"wsd": "warmup_stable_decay"}
#: The part of a `wsd` schedule in which the rate falls.
FALLS = 0.2


def spans(phases: Sequence[Phase], steps: int) -> list[range]:
    """The steps of each phase, in order; a phase may have none where there are few."""
    of = [phase_at(phases, step / steps) for step in range(steps)]
    starts = [of.index(number) if number in of else None for number in range(len(phases))]
    return [range(0) if at is None else range(at, at + of.count(n)) for n, at in enumerate(starts)]


def scheduler(args: TrainingArguments, optimizer: Optimizer, steps: int, share: float) -> LRScheduler:
    """A schedule of that many steps, in the first `share` of which the rate rises."""
    from transformers import get_scheduler

    kind = args.lr_scheduler_type
    more = {"num_decay_steps": max(1, round(FALLS * steps))} if kind == CALLED["wsd"] else None
    made: LRScheduler = get_scheduler(
        kind,
        optimizer=optimizer,
        num_warmup_steps=round(share * steps),
        num_training_steps=max(1, steps),
        scheduler_specific_kwargs=more,
    )
    return made
