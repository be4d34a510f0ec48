"""Compose adapters: at each target the strategy makes one delta of several, and what that cost is measured.

The result depends on the inputs, the recipe and nothing else: not on threads, names or places.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptr import plugins
from adaptr.adapter import Adapter, Base
from adaptr.adapter.expression import Expression
from adaptr.composing import beside, parents, recipe_file
from adaptr.composing.beside import Choice
from adaptr.composing.making import Work, opened_base, weights
from adaptr.composing.parents import Parent
from adaptr.composing.recipe import Input, Recipe, arguments, checked, files
from adaptr.composing.searching import searched
from adaptr.contract.capabilities import LOW_RANK
from adaptr.errors import UsageError
from adaptr.format import digest
from adaptr.format.io import write
from adaptr.models.belonging import require_named
from adaptr.precision import called
from adaptr.report import Report
from adaptr.results import about
from adaptr.sources.given import One, Several, several
from adaptr.sources.open import placed, reads
from adaptr.sources.resolve import Place, grounded
from adaptr.strategies.base import Made, Strategy
from adaptr.strategies.whole import Whole

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adaptr.checkpoint import Checkpoint

log = logging.getLogger("adaptr")


@dataclass(frozen=True)
class ComposeReport(Report):
    """What a composition did.

    `error`: ‖R - E‖ / ‖E‖ over all targets, E the strategy's own exact result. `distance`: the same against the plain
    weighted sum, None where that says nothing. `errors`: target to both. `alone`: targets that not all inputs change.
    `ranks`: lowest and highest, none where the result is no LoRA. `lost`: what the inputs said of themselves and the
    result can't, as it does not hold for all.
    """

    strategy: str
    config: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    method: str
    targets: int
    alone: int
    ranks: tuple[int, ...]
    error: float
    distance: float | None
    errors: Mapping[str, tuple[float, float | None]]
    replaced: tuple[str, ...]
    seconds: float
    lost: tuple[str, ...] = ()
    out: str = ""
    bytes: int = 0
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Composition:
    """The composed adapter and what is to be said of it."""

    adapter: Adapter
    report: ComposeReport

    def saved(self, out: Path, force: bool = False) -> Composition:
        """The same, written to a file, or into a folder; the report has the file's size and digest."""
        path = placed(out, force, ())
        write(self.adapter, path, force)
        file: dict[str, Any] = {"out": str(path), "bytes": path.stat().st_size, "digest": digest.of_file(path)}
        return Composition(self.adapter, dataclasses.replace(self.report, **file))


def compose(
    adapters: Several | Recipe,
    strategy: str = "linear",
    out: str | os.PathLike[str] | None = None,
    *,
    rank: int | None = None,
    energy: float | None = None,
    normalize: bool | None = None,
    seed: int = 0,
    replaced: Choice = "refuse",
    base: nn.Module | Place | None = None,
    any_base: bool = False,
    name: str = "",
    dtype: str | torch.dtype | None = None,
    force: bool = False,
    **config: object,
) -> Composition:
    """One adapter of several: `compose([("style", 0.7), ("tone", 0.3)], "ties", density=0.2)`; or a recipe, or its
    file, `.yaml` or `.yml`.

    A weight is a number, a list of numbers from the first layer to the last, or either by pattern of the path.
    `strategy`, `config`: the strategy and its fields. `normalize`: whether weights are made to sum to 1, None for the
    strategy's own way. `seed`: of what it draws. `rank`, `energy`: what the result is cut to, the highest rank of a
    target or the share of its squared size. `replaced`: what becomes of biases and whole parameters of several inputs,
    `refuse`, `first`, `average` or `drop`. `base`: where a change depends on the weights. `any_base`: go on although
    inputs name different bases. `name`: of the result. `dtype`: what it is stored in, without it the wider of fp32 and
    the inputs. `out`: where to write it, over what is there with `force`. The result has the adapter and a report with
    the errors, measured on what is stored.

    Raises `UsageError` for recipes that make no sense, `WrongBase` and its kin for inputs that don't belong together,
    `NoDelta` for adapters that have none, `NonFinite`.
    """
    options: dict[str, Any] = {"rank": rank, "energy": energy, "normalize": normalize, "seed": seed, "name": name}
    options |= {"replaced": replaced, "base": base, "any_base": any_base, "dtype": called(dtype)}
    options |= {"strategy": strategy, "config": config}
    recipe = recipe_of(adapters, options)
    if out is None:
        return composed(recipe)
    sources = [
        recipe_file.named(adapters),
        *(one.source for one in recipe.inputs),
        recipe.base,
        *files(recipe).values(),
    ]
    place = placed(out, force, reads(*sources))
    return composed(recipe, place.parent).saved(place, force)


def recipe_of(adapters: Several | Recipe, options: Mapping[str, Any]) -> Recipe:
    """The recipe that is given, or is in the file that is given, or is made of adapters and options."""
    file = recipe_file.named(adapters)
    if isinstance(adapters, Recipe) or file is not None:
        _require_nothing_beside(options)
    if isinstance(adapters, Recipe):
        return adapters
    if file is not None:
        recipe = recipe_file.read(file.path)
        for note in recipe.notes:
            log.warning("`%s`: %s", file.path.name, note)
        return recipe
    return Recipe(tuple(Input(each.what, each.weight) for each in _terms(several(adapters, least=0))), **options)


def _require_nothing_beside(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for an option beside a recipe, which would be lost."""
    plain = Recipe(())
    beside = next((name for name, value in options.items() if value != getattr(plain, name)), None)
    if beside is not None:
        raise UsageError("a recipe says everything itself", hint=f"leave out `{beside}`")


def _terms(given: Sequence[One]) -> Iterator[One]:
    """An expression that is given without a base is its terms: they are inputs like others."""
    for each in given:
        if isinstance(each.what, Expression) and each.what.base is None and isinstance(each.weight, int | float):
            yield from (One(adapter, weight * each.weight) for adapter, weight in each.what.terms)
        else:
            yield each


@dataclass(frozen=True)
class Gathered:
    """The inputs of a recipe, read, held against each other, and called as the base calls its places. `base`: what is
    known of theirs; `root`: where the base is, or the live model; `ground`: the same opened.
    """

    parents: list[Parent]
    base: Base
    root: nn.Module | Path | None
    ground: Any


def gathered(recipe: Recipe) -> Gathered:
    """Raises `WrongBase` and its kin for inputs that don't belong together."""
    root = grounded(recipe.base)
    given = [parents.opened(i.source, i.weight, root, i.digest) for i in recipe.inputs]
    parents.require_different(given)
    base = given[0].adapter.base if recipe.any_base else parents.require_one_base(given)
    ground = opened_base(root)
    given = _called(given, ground)
    parents.require_one_spelling([parents.paths_of(parent) for parent in given], [parent.label for parent in given])
    if isinstance(root, Path):
        require_named(root, [parent.adapter for parent in given], recipe.any_base)
    return Gathered(given, base, root, ground)


def composed(recipe: Recipe, folder: Path | None = None, spooled: bool = True) -> Composition:
    """Carry out a recipe. `folder`: where a result that may not fit into memory is kept meanwhile, unless it is not to
    be `spooled`.
    """
    started = time.perf_counter()
    if recipe.tune is not None:
        raise UsageError("the recipe wants something to be found by measuring", hint="carry it out by `adaptr.tune`")
    strategy, cfg = checked(recipe)
    found = gathered(recipe)
    given, base = found.parents, found.base
    if strategy.searches:
        given = searched(strategy, cfg, given, found.root)
    work = None if isinstance(strategy, Whole) else Work(recipe, strategy, cfg, given, found.ground)
    adapter = _whole(strategy, cfg, given, recipe) if work is None else work.adapter(folder, spooled)
    said = arguments(recipe, cfg, [parent.weight for parent in given], strategy.random)
    lineage = {"operation": "compose", "arguments": said, "parents": [dict(parent.named) for parent in given]}
    told, lost = about.joined([parent.adapter for parent in given])
    own = {"release": "", "summary": "", "training": {}, "source": ""}
    adapter = adapter.replace(base=base, name=recipe.name, lineage=lineage, **own, **told)
    report = _report(strategy, cfg, given, adapter, work, time.perf_counter() - started)
    return Composition(adapter, dataclasses.replace(report, lost=lost))


def _called(given: Sequence[Parent], ground: Checkpoint | nn.Module | None) -> list[Parent]:
    """The inputs with the names that the base has for their places."""
    from adaptr.checkpoint.names import Names
    from adaptr.checkpoint.open import Checkpoint
    from adaptr.host.names import current

    if ground is None:
        return list(given)
    names = Names(ground) if isinstance(ground, Checkpoint) else None

    def called(adapter: Adapter) -> Adapter:
        if names is None:
            return current(cast("nn.Module", ground), adapter)
        found = names.renamings({**dict.fromkeys(adapter.replaced_paths), **adapter.targets})
        return adapter.renamed(found) if found else adapter

    return [dataclasses.replace(parent, adapter=called(parent.adapter)) for parent in given]


def _whole(strategy: Strategy, cfg: object, given: Sequence[Parent], recipe: Recipe) -> Adapter:
    assert isinstance(strategy, Whole)
    for parent in given:
        if not isinstance(parent.weight, int | float):
            raise UsageError(
                f"the weight of `{parent.label}`",
                got="given by pattern or as a gradient",
                want=f"one number, which strategy `{strategy.name}` takes",
            )
    weight = weights({}, recipe, strategy, given)
    strengths = [weight(n, "") for n in range(len(given))]
    made = strategy.whole([parent.adapter.floats() for parent in given], strengths, cfg)
    parts = {n: parent.adapter.replaced for n, parent in enumerate(given) if parent.weight != 0}
    whole = beside.replaced(parts, weight, recipe.replaced, made.targets)
    return made.replace(tensors={**made.tensors, **{f"{path}:=": tensor for path, tensor in whole.items()}})


def _report(
    strategy: Strategy, cfg: object, given: Sequence[Parent], adapter: Adapter, work: Work | None, seconds: float
) -> ComposeReport:
    numbers = {} if work is None else work.numbers
    total = [sum(getattr(made, name) for made in numbers.values()) for name in ("size", "wrong", "plain", "apart")]
    factored = adapter.method == plugins.default(LOW_RANK)
    ranks = {t.config["r"] for t in adapter.targets.values()} if factored else set()
    return ComposeReport(
        strategy=strategy.name,
        config=vars(cfg),
        inputs=tuple({"label": p.label, "weight": p.weight, **p.named} for p in given),
        method=adapter.method,
        targets=len(adapter.all_targets),
        alone=0 if work is None else work.alone,
        ranks=(min(ranks), max(ranks)) if ranks else (),
        error=_share(total[1], total[0]) or 0.0,
        distance=_share(total[3], total[2]) if not strategy.linear or total[1] else None,
        errors={path: _errors(numbers[path]) for path in adapter.targets if path in numbers},
        replaced=tuple(sorted(adapter.replaced)),
        seconds=seconds,
    )


def _errors(made: Made) -> tuple[float, float | None]:
    return _share(made.wrong, made.size) or 0.0, _share(made.apart, made.plain)


def _share(part: float, whole: float) -> float | None:
    return math.sqrt(max(part, 0.0) / whole) if whole else None
