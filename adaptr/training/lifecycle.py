"""`Lifecycle`: what couples a `Session` to a trainer of transformers or TRL, whichever it is. It knows no method.

The seven things that a method may want of training (decision 0018) have their place here, and nowhere else: `prepare`
before the first step, `groups` in the optimiser, `objective` in the loss, `after_step` behind the optimiser, `begin`
between phases, `state` in checkpoints; `finish` is called by who asked for the training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptr.contract.lifecycle import TASKS, Run, phase_at
from adaptr.training import checkpoints, private, sharded
from adaptr.training.generators import kept_generators
from adaptr.training.rates import rated
from adaptr.training.schedule import scheduler, spans

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from adaptr.host import Session
    from adaptr.training.watching import Watcher

#: Batches that a method may look at before the first step.
LOOKED_AT = 16


class Lifecycle:
    """A mixin in front of a trainer: `class Plain(Lifecycle, Trainer)`.

    `attach`: puts the adapter on the model and gives its session; called behind the trainer's constructor, where TRL
    casts whatever learns on a 4-bit base. `warmup`, `rates`: as a recipe has them; of a phase its share of all.
    `identity`: what a checkpoint must be of, to be gone on with.
    """

    if TYPE_CHECKING:
        model: Any
        args: Any
        state: Any
        optimizer: Any
        lr_scheduler: Any
        accelerator: Any
        callback_handler: Any
        current_gradient_accumulation_steps: int

    def __init__(
        self,
        model: nn.Module,
        attach: Callable[[nn.Module], Session],
        *,
        warmup: float = 0.0,
        rates: Mapping[str, float] | None = None,
        identity: Any = None,
        **given: Any,
    ) -> None:
        from adaptr.training.callbacks import Steps

        self.warmup, self.rates, self.identity = warmup, dict(rates or {}), dict(identity or {})
        self._before = private.seen(model)
        with private.adapters_on(model):
            super().__init__(model=model, **given)  # type: ignore[call-arg]
        self.session = attach(model)
        self.steps = Steps(self)
        self._clock: tuple[float, int] | None = None
        self.callback_handler.callbacks.insert(0, self.steps)

    def watched(self, watcher: Watcher) -> None:
        """Let `watcher` be told how it goes, and nobody else."""
        from transformers import PrinterCallback

        from adaptr.training.callbacks import Points

        self.callback_handler.remove_callback(PrinterCallback)
        self.callback_handler.add_callback(Points(watcher))

    def moved(self) -> dict[str, float]:
        """How far each target's tensors are from where they began: a norm."""
        found: dict[str, float] = {}
        live = {key: p.detach() for key, p in self.session.named().items()}
        for key, p in sharded.whole(live).items():
            began = self.session.adapter.tensors[key].to(p.device)
            path = key.rpartition(":")[0]
            found[path] = math.hypot(found.get(path, 0.0), float((p.float() - began.float()).norm()))
        return found

    def release(self) -> None:
        """Take the adapter off, and what the trainer left on the model."""
        self.session.detach()
        private.restore(self.model, self._before)

    # ------------------------------------------------------------ the course

    def train(self, resume_from_checkpoint: Path | None = None) -> Any:
        """Train to the end, from the beginning or from a checkpoint."""
        if resume_from_checkpoint is None:
            self._prepare()
            return super().train()  # type: ignore[misc]
        return super().train(resume_from_checkpoint=str(resume_from_checkpoint))  # type: ignore[misc]

    def _prepare(self) -> None:
        """Let the method look at the base and at some batches, which changes no draw of what comes later."""
        if self.session.prepared:
            return
        number = self.session.draws.number
        with kept_generators():
            self.model.train()
            self.session.prepare(self._looks())
        self.session.draws.number = number
        self.model.zero_grad()

    def _looks(self) -> Iterator[Run]:
        """Forwards of the first batches, the same in every process: what a method makes of them must be one thing."""
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            self.train_dataset,  # type: ignore[attr-defined]
            batch_size=self.args.per_device_train_batch_size,
            collate_fn=self.data_collator,  # type: ignore[attr-defined]
        )
        for _, batch in zip(range(LOOKED_AT), loader, strict=False):
            with self._said(self._prepare_inputs(batch)) as inputs:  # type: ignore[attr-defined]
                yield lambda inputs=inputs: self._forward(self.model, inputs, None)  # type: ignore[misc]

    @contextmanager
    def _said(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the model is given of a batch, while formulas find the rest."""
        own = dict(batch)
        said = {TASKS: own.pop(TASKS)} if TASKS in own else {}
        with self.session.saying(**said):
            yield own

    # ------------------------------------------------------------ the loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        with self._said(inputs) as own:
            if not self.model.training:
                found = self._forward(model, own, num_items_in_batch)
                return found if return_outputs else found[0]
            # A loss over the tokens of a whole step is this batch's part of it, and is not divided by the number of
            # batches again. What a method adds is of one batch: it sees losses as if each batch were the whole step's.
            parts = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            outputs: list[Any] = []

            def run() -> tuple[Tensor, Any]:
                loss, output = self._forward(model, own, num_items_in_batch)
                outputs.append(output)
                return loss * parts, output

            loss = self.session.objective(run) / parts
        return (loss, outputs[0]) if return_outputs else loss

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Tensor, Any]:
        """Loss and output of one forward, as the trainer below computes them."""
        found: tuple[Tensor, Any] = super().compute_loss(model, dict(inputs), True, items)  # type: ignore[misc]
        return found

    # ------------------------------------------------------------ optimiser and schedule, one of each a phase

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None:
            kind, given = type(self).get_optimizer_cls_and_kwargs(self.args, self.model)  # type: ignore[attr-defined]
            rate, decay = given.pop("lr"), self.args.weight_decay
            self.optimizer = kind(
                [
                    {"params": list(group.params), "lr": rate * group.rate, "weight_decay": decay * group.decay}
                    for group in rated(self.session, self.rates)
                ],
                lr=rate,
                **given,
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            steps = spans(self.session.phases(), num_training_steps)[self.session.phase]
            share = self.warmup if self.warmup < 1 else self.warmup / num_training_steps
            self.lr_scheduler = scheduler(self.args, optimizer or self.optimizer, len(steps), share)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def enter(self) -> None:
        """Called before each step: begin the phase that it belongs to, with an optimiser and a schedule of its own."""
        number = phase_at(self.session.phases(), self.state.global_step / self.state.max_steps)
        if number == self.session.phase:
            return
        self.session.begin(number)
        self.optimizer, self.lr_scheduler = None, None
        self.optimizer = private.prepared(self.accelerator, self.create_optimizer())
        self.create_scheduler(self.state.max_steps)
        self.callback_handler.optimizer, self.callback_handler.lr_scheduler = self.optimizer, self.lr_scheduler

    # ------------------------------------------------------------ checkpoints: what training changed

    def _get_output_dir(self, trial: Any) -> str:
        return str(checkpoints.staging(self.args.output_dir))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with checkpoints.written(self.args.output_dir, self.state.global_step, self.accelerator):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        state = self.session.state()
        state["tensors"] = sharded.whole(state["tensors"])  # in every process: it takes all of them
        if self.args.should_save and output_dir is not None:
            checkpoints.put(output_dir, state, self.identity)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = checkpoints.state(resume_from_checkpoint, self.identity)
        state["tensors"] = sharded.spread(state["tensors"], self.session.named())
        self.session.load_state(state)

    # ------------------------------------------------------------ what is said of it

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        now, seen = time.perf_counter(), self.state.num_input_tokens_seen
        if "loss" in logs and self._clock is not None and seen > self._clock[1]:
            logs["speed"] = (seen - self._clock[1]) / (now - self._clock[0])
        self._clock = now, seen
        super().log(logs, None)  # type: ignore[misc]

    def create_model_card(self, *_: object, **__: object) -> None:
        """TRL writes one beside each checkpoint."""

    def _send_telemetry(self) -> None:
        """TRL tells the Hub of each training."""
