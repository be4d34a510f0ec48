"""What becomes of a method in training, in the order in which it happens (decision 0018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.contract.declared import Declared
from adaptr.contract.lifecycle import FINISHED, Group, Phase, Run
from adaptr.contract.settings import C

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Session


class Training(Declared[C]):
    """What is not supplied is one phase on the task's own loss, of all that trains."""

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        """Before the first step, once: initialisations from the base (`session.base`) or from forwards of some data."""

    def phases(self, cfg: C) -> Sequence[Phase]:
        """What training is made of, in order: usually one phase."""
        return (Phase("train"),)

    def sources(self, cfg: C) -> Sequence[str]:
        """The tasks that it learns together, of which each record says one: usually there is one, and none is said."""
        return ()

    def begin(self, session: Session, phase: str) -> None:
        """What happens where a phase that is not the first begins; an optimiser of its own comes after it."""

    def groups(self, session: Session) -> Sequence[Group]:
        """What optimisers get: every trained tensor once."""
        return (Group(list(session.parameters())),)

    def objective(self, session: Session, run: Run) -> Tensor:
        """The loss of the batch of which `run()` is one forward: usually that forward's, and the penalty."""
        loss: Tensor = run()[0] + session.penalty()
        return loss

    def penalty(self, session: Session) -> Tensor | float:
        """What a training loss has added to it, beyond the task's own: usually nothing."""
        return 0.0

    def after_step(self, session: Session) -> None:
        """What a schedule does after each optimiser step, while gradients are still there: usually nothing.

        `session.steps` counts from 1; `session.memory` is the method's own between steps, tensors by `<path>:<name>`.
        """

    def remembered(self, session: Session) -> Mapping[str, Tensor]:
        """What is saved with an adapter in training, for going on: all of the session's memory, or what is needed."""
        return session.memory

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        """What is kept of `adapter`, trained: usually all but what is for training only."""
        return finished(self, adapter)


def finished(method: Declared[Any], adapter: Adapter) -> Adapter:
    """`adapter` without what its method goes on by and what is there `unless="finished"`, which it says it is."""
    if FINISHED not in {field.name for field in dataclasses.fields(method.Config)}:
        return adapter.remembering({})
    config = {**adapter.config, FINISHED: True}
    targets = {
        path: dataclasses.replace(target, config={**target.config, FINISHED: True})
        for path, target in adapter.targets.items()
    }

    def stays(key: str) -> bool:
        path, _, name = key.rpartition(":")
        said = targets[path].config if path in targets else config
        return name not in method.params or method.params[name].present(said)

    tensors = {key: tensor for key, tensor in adapter.tensors.items() if stays(key)}
    return adapter.replace(config=config, targets=targets, tensors=tensors).remembering({})
