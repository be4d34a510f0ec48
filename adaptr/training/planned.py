"""What would be trained, told from configurations and data alone."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from adaptr import planning, plugins
from adaptr.checkpoint import skeleton
from adaptr.sources.resolve import resolve
from adaptr.training import learning, processes
from adaptr.training.recipe import Recipe
from adaptr.training.watching import About

#: What NVIDIA's driver puts there, which is looked at where torch is not asked.
DRIVER = "/dev/nvidiactl"


def about(recipe: Recipe, out: str) -> About:
    """Raises what reading the data and the base's configuration raise, and what creating the adapter would."""
    source = resolve(recipe.base)
    found = learning.given(recipe, source.path)
    device = recipe.device if recipe.device != "auto" else "cuda" if os.path.exists(DRIVER) else "cpu"
    dtype = recipe.dtype if recipe.dtype != "auto" else "bf16" if device == "cuda" else "fp32"
    settled: dict[str, Any] = {"base": str(source.path), "task": found.task.name, "device": device, "dtype": dtype}
    recipe = dataclasses.replace(recipe, **settled)
    made = described(recipe, found, source.given, out)
    return made if recipe.adapter is not None or recipe.over else costed(made, recipe)


def costed(made: About, recipe: Recipe) -> About:
    """With what learns, and the memory that it takes, estimated for rows of full length."""
    found = planning.before(recipe)
    memory = dataclasses.asdict(found.memory)
    return dataclasses.replace(made, parameters=found.trained, parameters_of_base=found.base, memory=memory)


def described(recipe: Recipe, found: learning.Given, called: str, out: str) -> About:
    """`called`: what people call the base."""
    names: Any = skeleton.described(resolve(recipe.base).path).get("architectures")
    rate = plugins.method(recipe.method).rate if recipe.rate is None else recipe.rate
    return About(
        base=called,
        architecture=str(names[0]) if names else "unknown architecture",
        task=found.task.name,
        method=recipe.method,
        config=recipe.config,
        data={
            "records": len(found.train.records),
            "validation": 0 if found.valid is None else len(found.valid.records),
        },
        steps=steps(recipe, len(found.train.records)),
        batch=recipe.batch,
        accumulate=recipe.accumulate,
        rate=rate,
        schedule=recipe.schedule,
        device=recipe.device,
        dtype=recipe.dtype,
        out=out,
    )


def steps(recipe: Recipe, examples: int) -> int:
    """All that will be taken, where records are not packed."""
    if recipe.steps is not None:
        return recipe.steps
    batches = math.ceil(math.ceil(examples / recipe.batch) / processes.count())
    of_epoch = max(1, math.ceil(batches / recipe.accumulate))
    return math.ceil(of_epoch * recipe.epochs)
