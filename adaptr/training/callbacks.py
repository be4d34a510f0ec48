"""What happens between steps: the session's work, an orderly end, guards, and what a person sees."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from adaptr.training import checkpoints
from adaptr.training.guards import Guard
from adaptr.training.watching import Point, Watcher

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from adaptr.training.lifecycle import Lifecycle


class Steps(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """The session's work around an optimiser's step, and the end after the step at hand where it is asked for.

    `stop`: whether it was asked for. `until`: the step to stop after, None for the last.
    """

    def __init__(self, trainer: Lifecycle) -> None:
        self.trainer, self.stop = trainer, False
        self.until: int | None = None

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.trainer.enter()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Gradients are there still. A step that fp16's scaler left out was none."""
        if not self.trainer.accelerator.optimizer_step_was_skipped:
            self.trainer.session.after_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < state.max_steps and (self._asked(args) or state.global_step == self.until):
            control.should_save = control.should_training_stop = True

    def _asked(self, args: Any) -> bool:
        """Whether any process was asked to stop: all stop after the same step."""
        if args.world_size == 1:
            return self.stop
        import torch

        asked = torch.tensor(float(self.stop), device=args.device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return bool(asked)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """An interrupt ends the training after the step at hand, a second one at once."""

        def asked(number: int, frame: FrameType | None) -> None:
            if self.stop:
                raise KeyboardInterrupt
            self.stop = True

        try:
            before = signal.signal(signal.SIGINT, asked)
        except ValueError:  # not the main thread, which has no signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Points(TrainerCallback):  # type: ignore[misc]
    """Tells a `Watcher` of each point of the curves, and refuses what can't become anything any more."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.guard = Guard()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.guard = Guard(half=args.fp16)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if control.should_save:  # what is saved was looked at
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        kept = next(reversed(checkpoints.all_of(Path(str(args.output_dir)))), None)
        norm, rate = logs.get("grad_norm"), logs["learning_rate"]
        self.guard.look(state.global_step, logs["loss"], norm, rate, str(kept or ""))
        point = Point(state.global_step, state.max_steps, logs["loss"], logs["learning_rate"], logs.get("speed"))
        if state.is_world_process_zero:
            self.watcher.stepped(point)
