"""A training that went through, as its report, and as what its adapter says of its making."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.models.content import knowing
from adaptr.training import guards, provenance, sharded
from adaptr.training.again import command
from adaptr.training.report import Curves, TrainingReport
from adaptr.training.worth import Worth, samples

if TYPE_CHECKING:
    from adaptr.training.course import Course


def reported(course: Course, trainer: Any, before: Worth, after: Worth) -> TrainingReport:
    """The report, with the adapter that is kept."""
    said = _said(course, trainer, before, after)
    made = knowing(trainer.session.finish(), course.model)
    made = made.replace(training={**made.training, **said}, tensors=sharded.whole(made.tensors))
    moved = trainer.moved()
    notes = [*course.examples.notes, *_judged(course, before, after, moved), *_risen(course, trainer.state.max_steps)]
    for note in notes:
        course.watcher.noted(note)
    return TrainingReport(
        out="",
        adapter=made,
        base=course.source.given,
        architecture=type(course.model).__name__,
        method=made.method,
        dtype=course.machine.dtype,
        recipe_digest=course.recipe_digest,
        parameters=sum(p.numel() for p in trainer.session.parameters()),
        parameters_of_base=sum(p.numel() for p in course.model.parameters() if not p.requires_grad),
        targets=len(made.all_targets),
        curves=curves(trainer.state.log_history),
        moved=moved,
        before=before.figures,
        after=after.figures,
        measured_on=len(course.given.measured),
        held_out=course.given.valid is not None,
        second_before=before.second,
        second_after=after.second,
        samples=samples(course.examples, before, after),
        statistics=course.examples.statistics,
        notes=tuple(notes),
        command=command(course.recipe, course.place),
        bytes=0,
        digest="",
        seconds=time.perf_counter() - course.started,
        **{name: said[name] for name in SHARED},
    )


def _judged(course: Course, before: Worth, after: Worth, moved: Mapping[str, float]) -> list[str]:
    """The loss of chosen answers may rise while they are preferred: it says nothing there."""
    preferences = course.given.task.trainer == "dpo"
    return guards.said({}, {}, moved) if preferences else guards.said(before.figures, after.figures, moved)


def _risen(course: Course, steps: int) -> Iterator[str]:
    rate, warmup = course.recipe.rate, course.recipe.warmup
    if warmup >= max(steps, 2):
        yield f"the rate rises for {warmup:g} steps and there were {steps}: it did not get to {rate:g}"


#: What the report has as the manifest has it.
SHARED = ("task", "device", "processes", "recipe", "data", "versions", "steps", "tokens")


def _said(course: Course, trainer: Any, before: Worth, after: Worth) -> dict[str, Any]:
    """The manifest's `training`: the same for the same inputs, however often it was interrupted."""
    return {
        "recipe": course.resolved,
        "recipe_digest": course.recipe_digest,
        "data": course.given.digests,
        "task": course.given.task.name,
        "labels": list(course.examples.limits.labels),
        "versions": provenance.versions(course.recipe.base_quant != "none"),
        "device": hardware(course.machine.device),
        "processes": trainer.args.world_size,
        "steps": trainer.state.global_step,
        "tokens": trainer.state.num_input_tokens_seen,
        "measured": {
            "held_out": course.given.valid is not None,
            "records": len(course.given.measured),
            "before": dict(before.figures),
            "after": dict(after.figures),
        },
    }


def curves(history: list[dict[str, Any]]) -> Curves:
    """What the trainer recorded, before an interruption too."""
    points = [one for one in history if "loss" in one]
    return Curves(
        tuple(one["step"] for one in points),
        tuple(one["loss"] for one in points),
        tuple(one["learning_rate"] for one in points),
        tuple(one.get("grad_norm") for one in points),
        tuple(one.get("speed") for one in points),
        tuple((one["step"], one["eval_loss"]) for one in history if "eval_loss" in one),
    )


def hardware(device: str) -> str:
    """What kind of machine it is, which is nobody's name."""
    if device != "cuda":
        return device
    import torch

    return torch.cuda.get_device_name()
