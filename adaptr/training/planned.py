"""What would be trained, told from configurations and data alone."""

from __future__ import annotations

import math
from typing import Any

from adaptr import plugins
from adaptr.checkpoint import skeleton
from adaptr.sources.resolve import resolve
from adaptr.training import learning, processes
from adaptr.training.recipe import Recipe
from adaptr.training.watching import About


def about(recipe: Recipe, out: str) -> About:
    """Raises what reading the data and the base's configuration raise."""
    source = resolve(recipe.base)
    return described(recipe, learning.given(recipe, source.path), source.given, out)


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
