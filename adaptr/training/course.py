"""One training from end to end: base and data loaded, measured, trained, measured again, written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins, tasks
from adaptr.adapter import Adapter
from adaptr.errors import AdaptrError, Interrupted, UsageError
from adaptr.format import digest, write
from adaptr.host.packed import hold, require_learning, require_sound
from adaptr.models.load import quiet_transformers
from adaptr.sources.given import opened
from adaptr.sources.resolve import resolve
from adaptr.tasks.isolation import require_isolation
from adaptr.training import checkpoints, learning, planned, private, provenance
from adaptr.training.arguments import arguments
from adaptr.training.precision import machine, quantized
from adaptr.training.recipe import Recipe
from adaptr.training.report import TrainingReport
from adaptr.training.reporting import reported
from adaptr.training.watching import About, Watcher
from adaptr.training.worth import worth

if TYPE_CHECKING:
    from adaptr.host import Handle, Session


class Course:
    """`place`: the file to write, None for none. `run`: the folder for checkpoints."""

    def __init__(self, recipe: Recipe, place: Path | None, run: Path, resume: bool, watcher: Watcher) -> None:
        self.started = time.perf_counter()
        self.place, self.run, self.watcher = place, run, watcher
        self.checkpoint = checkpoints.latest(run) if resume else None
        self.source = resolve(recipe.base)
        self.base = self.source.path
        self.given = learning.given(recipe, self.base)
        quiet_transformers()
        private.quiet()
        self.machine = machine(recipe)
        self.examples = learning.examples(recipe, self.given, self.base)
        self.model: Any = self._model(recipe)
        self.below = self._below(recipe)
        self.start = self._adapter(recipe)
        self.recipe = self._settled(recipe)
        self.resolved, self.recipe_digest = provenance.recipe_of(self.recipe, self._digests())
        if self.checkpoint is not None:
            checkpoints.require(self.checkpoint, self.resolved)

    def report(self, force: bool = False) -> TrainingReport:
        """Train, and write the adapter."""
        before = worth(self.model, self.examples, self.recipe, self.watcher)
        trainer = self._trainer()
        try:
            self.watcher.begins(self._about(trainer))
            self._train(trainer)
            after = worth(self.model, self.examples, self.recipe, self.watcher)
            report = reported(self, trainer, before, after)
        finally:
            trainer.release()
            for handle in reversed(self.below):
                handle.detach()
        if self.place is None or not trainer.is_world_process_zero():
            return report
        file = write(report.adapter, self.place, force)
        return dataclasses.replace(report, out=str(file), bytes=file.stat().st_size, digest=digest.of_file(file))

    # ------------------------------------------------------------ what is trained

    def _model(self, recipe: Recipe) -> Any:
        """The base, with a head of the task where it has none."""
        import torch

        torch.manual_seed(recipe.seed)  # of a head that is fresh
        load: dict[str, Any] = {"dtype": self.machine.load}
        if (config := quantized(recipe, self.machine)) is not None:
            load["quantization_config"] = config
        model: Any = self.given.task.model(self.base, self.examples.limits.labels, **load)
        require_sound(model)
        require_learning(model)  # before it runs: some kernels choose at their first forward, for good
        hold(model)  # base and adapter are measured by one kernel: that which trains
        packed = config is not None or getattr(model, "is_quantized", False)
        return model if packed else model.to(self.machine.device)

    def _below(self, recipe: Recipe) -> list[Handle]:
        """What is on the base while it is measured and learned on, and is no part of what is kept."""
        from adaptr.runtime.attaching import attach

        return [attach(self.model, one) for one in recipe.below]

    def _adapter(self, recipe: Recipe) -> Adapter:
        from adaptr.runtime.attaching import create

        if recipe.adapter is not None:
            return opened(recipe.adapter, self.model)
        heads = self.given.task.heads(self.model, self.base)
        targets: Any = recipe.targets
        if targets is None and heads and not recipe.over:
            targets = self._beside(create(self.model, recipe.method, **recipe.config), heads)
        asked = [recipe.also] if isinstance(recipe.also, str) else recipe.also
        name = recipe.name or (self.place.name.split(".")[0] if self.place else "")
        also = [*asked, *heads]
        children = self._over(recipe, heads) or None
        return create(self.model, recipe.method, targets, None, recipe.seed, name, children, also, **recipe.config)

    def _over(self, recipe: Recipe, heads: Sequence[str]) -> dict[str, Adapter]:
        """By name, without the heads of their own tasks: this one's is trained anew beside them."""
        found = {}
        for place in recipe.over:
            adapter = opened(place, self.model)
            kept = {key: t for key, t in adapter.tensors.items() if not (key[-2:] == ":=" and _within(key, heads))}
            if adapter.label in found:
                raise UsageError(f"two of the adapters in `over` are called `{adapter.label}`", hint="rename one")
            found[adapter.label] = adapter.replace(tensors=kept)
        return found

    @staticmethod
    def _beside(made: Adapter, heads: Sequence[str]) -> list[str] | None:
        """The method's own targets without those in heads that are fresh, and so are trained whole; None for all."""
        paths = [path for path in made.targets if not _within(path, heads)]
        return None if len(paths) == len(made.targets) else paths

    def _settled(self, recipe: Recipe) -> Recipe:
        """The recipe with what it left to method, task and machine."""
        settled: dict[str, Any] = {
            "method": self.start.method,
            "rate": plugins.method(self.start.method).rate if recipe.rate is None else recipe.rate,
            "task": self.given.task.name,
            "dtype": self.machine.dtype,
            "device": self.machine.device,
        }
        return dataclasses.replace(recipe, **settled)

    def _digests(self) -> dict[str, Any]:
        """What stands for places: data, the base by its weights at the targets and by what makes ids of texts, the
        adapter gone on from.
        """
        found: dict[str, Any] = {**self.given.digests, "base": self.start.base.content or self.start.base.structure}
        if spelled := tasks.of_tools(self.base):
            found["tokenizer"] = spelled
        if self.recipe.adapter is not None:
            found["adapter"] = digest.of_adapter(self.start)
        for name in ("over", "below"):
            if given := getattr(self.recipe, name):
                found[name] = [digest.of_adapter(opened(one, self.model)) for one in given]
        return found

    # ------------------------------------------------------------ the training

    def _trainer(self) -> Any:
        kind, recipe, examples = self.given.task.trainer, self.recipe, self.examples
        evaluates = bool(recipe.eval_every and examples.valid)
        if recipe.pack:
            require_isolation(self.model)
        sources = self._sources(kind)
        made = trainer_of(kind)(
            self.model,
            self._attached,
            warmup=recipe.warmup,
            rates=recipe.rates,
            identity=self.resolved,
            args=arguments(recipe, kind, self.machine, self.run),
            train_dataset=learning.dataset(examples.train, kind, sources),
            eval_dataset=learning.dataset(examples.valid, kind, sources) if evaluates else None,
            data_collator=None if recipe.pack or kind == "dpo" else examples.collate,
            processing_class=examples.tools.tokenizer,
        )
        made.watched(self.watcher)
        return made

    def _sources(self, kind: str) -> Sequence[str]:
        """The tasks of which each record says one. Raises `UsageError` where batches don't keep that."""
        method = plugins.method(self.start.method)
        found = method.sources(method.config(self.start.config))
        if found and (self.recipe.pack or kind == "dpo"):
            what = "pack" if self.recipe.pack else "objective: dpo"
            raise UsageError(f"`{method.name}` learns several tasks, a row each", hint=f"leave `{what}` out")
        return found

    def _attached(self, model: Any) -> Session:
        from adaptr.runtime.attaching import train

        session = train(model, self.start)
        if self.recipe.pack:
            require_isolation(model, self.start.method)
        return session

    def _train(self, trainer: Any) -> None:
        with trainer.steps.interruptible():
            trainer.train(self.checkpoint)
        taken, all_of_them = trainer.state.global_step, trainer.state.max_steps
        if taken < all_of_them:
            raise Interrupted(
                f"stopped after step {taken} of {all_of_them}, which is kept in `{self.run}`",
                hint="the same command with `--resume` goes on to the same adapter",
            )

    def _about(self, trainer: Any) -> About:
        """What will be trained, known to the last number."""
        found = planned.described(self.recipe, self.given, self.source.given, str(self.place or ""))
        if self.recipe.adapter is None and not self.recipe.over:
            longest = min(self.recipe.length, self.examples.statistics["longest"])
            with suppress(AdaptrError):  # where its cost is unknown it trains as well
                found = planned.costed(found, dataclasses.replace(self.recipe, base=str(self.base), length=longest))
        return dataclasses.replace(
            found,
            config=self.start.config,
            parameters=sum(p.numel() for p in trainer.session.parameters()),
            parameters_of_base=parameters_of_base(self.model),
            targets=len(self.start.all_targets),
            data=self.examples.statistics,
            steps=planned.steps(self.recipe, len(trainer.train_dataset)),
        )


def _within(path: str, heads: Sequence[str]) -> bool:
    return any(f"{path}.".startswith(f"{head}.") for head in heads)


def parameters_of_base(model: Any) -> int:
    """Of a base with an adapter on it: what does not learn."""
    return sum(p.numel() for p in model.parameters() if not p.requires_grad)


def trainer_of(kind: str) -> Any:
    """The trainer for tasks of that `kind`."""
    if kind in {"sft", "dpo"}:
        from adaptr.training import with_trl

        return with_trl.Causal if kind == "sft" else with_trl.Preferring
    from adaptr.training import trainers

    return trainers.Translating if kind == "seq2seq" else trainers.Plain
