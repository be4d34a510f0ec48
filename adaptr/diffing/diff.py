"""How two adapters differ, or an adapter and a fine-tuned checkpoint, or two checkpoints: in what they say of
themselves, in what they do to each weight, and in what it would mean to compose them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import Target, agree
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.diffing.drawn import NOTE, held, tensors, unbased
from adaptr.diffing.header import header_fields
from adaptr.diffing.report import DiffReport, Other, State, TargetDiff
from adaptr.errors import NoDelta, ShapeError, UsageError, WrongBase
from adaptr.files.meter import Meter, Progress
from adaptr.sources.given import Given, What, label, one
from adaptr.sources.open import Opened, open_adapter
from adaptr.sources.resolve import Place, Source, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from adaptr.diffing.sides import Side
    from adaptr.models.weights import Weights


def diff(
    a: Given,
    b: Given,
    base: Place | None = None,
    *,
    header: bool = False,
    intruders: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> DiffReport:
    """How `a` and `b` differ, each an adapter or a checkpoint.

    A checkpoint counts as its change to `base`, or, against another checkpoint, to `a` where no base is given. Two
    adapters whose changes are in proportion to the weights, such as (IA)3's, need no base, nor do two of one method
    where only what they hold is asked: of prompts and bottlenecks, and of what is known against a base alone.
    `header`: compare what they say, not the weights. `intruders`: so many leading singular vectors of W + D are looked
    for among those of W. `seed`: of the rows sampled for signs.

    Raises `UsageError` where a base is wanted and not given, `WrongBase` for adapters that name different bases,
    `ShapeError` for targets of different shapes, `NoDelta` where adapters of two methods have no changes to compare,
    `NonFinite`.
    """
    started = time.perf_counter()
    given = one(a), one(b)
    found = _diffed(given, None if base is None else resolve(base).path, header, intruders, seed, progress)
    return replace(
        found, a=label(given[0]), b=label(given[1]), seconds=0.0 if header else time.perf_counter() - started
    )


def _diffed(
    given: tuple[What, What], base: Path | None, header: bool, intruders: int, seed: int, progress: Progress | None
) -> DiffReport:
    from adaptr.diffing import sides

    models = [isinstance(source, Source) and sides.is_checkpoint(source.path) for source in given]
    if header:
        if any(models):
            raise UsageError(
                "`--header` compares what adapters say of themselves, and a checkpoint has no such header",
                hint="leave it out, or give two adapters",
            )
        fields = header_fields(*(open_adapter(source, base) for source in given))
        return DiffReport("", "", not fields, None, fields)
    if intruders and base is None and not any(models):
        raise UsageError("intruder dimensions are told against the base's weights", hint="give `--base BASE`")
    return _compared(given, base, models, intruders, seed, progress)


def _compared(
    given: tuple[What, What],
    base: Path | None,
    models: Sequence[bool],
    intruders: int,
    seed: int,
    progress: Progress | None,
) -> DiffReport:
    from adaptr.diffing.measure import RUN, RUNS
    from adaptr.diffing.summary import interference

    if models[0] != models[1] and base is None:
        raise UsageError("an adapter against a checkpoint wants the base that both change", hint="give `--base BASE`")
    opened = [None if model else open_adapter(source, base) for source, model in zip(given, models, strict=True)]
    adapters = [found for found in opened if found is not None]
    fields = header_fields(*adapters) if len(adapters) == 2 else ()
    notes = _require_one_base(adapters)
    roots = [
        source.path if model and isinstance(source, Source) else None
        for source, model in zip(given, models, strict=True)
    ]
    root = base if base is not None else roots[0] if all(models) else None
    ground = open_checkpoint(root) if root is not None else None
    drawn = unbased([found.adapter for found in adapters], seed) if ground is None else None
    try:
        sides = _sides(_labels(*given), roots, opened, ground, drawn)
    except NoDelta as why:
        if ground is not None:
            raise
        one, two = (found.adapter.floats() for found in adapters)
        return held(one, two, fields, _others(tensors(one), tensors(two)), why)
    targets = _targets(*sides, ground, intruders, seed, progress)
    if drawn is not None:
        notes, targets = (*notes, NOTE), tuple(replace(t, relative_a=t.norm_a, relative_b=t.norm_b) for t in targets)
    others = _others(sides[0].others(), sides[1].others())
    labels = [side.label for side in sides]
    found = interference(targets, *labels)
    same = not others and all(t.state == "same" for t in targets)
    equal = same and not fields
    return DiffReport("", "", equal, same, fields, targets, others, found, seed, RUNS * RUN, (*notes, *_notes(targets)))


def _require_one_base(adapters: Sequence[Opened]) -> tuple[str, ...]:
    """Raises `WrongBase` where two adapters can't be for one model; says so where they name it differently."""
    if len(adapters) < 2:
        return ()
    one, two = (found.adapter.base for found in adapters)
    if one.structure and two.structure and one.structure != two.structure:
        raise WrongBase(
            f"`{adapters[0].adapter.label}` and `{adapters[1].adapter.label}` are for models of different structure "
            f"({one.id or one.architecture or 'unnamed'} and {two.id or two.architecture or 'unnamed'})",
            hint="compare what they say of themselves with `--header`",
        )
    if one.id and two.id and one.id != two.id:
        return (f"they name different bases, {one.id} and {two.id}: their changes add up only on one and the same",)
    return ()


def _sides(
    labels: tuple[str, str],
    roots: Sequence[Path | None],
    opened: Sequence[Opened | None],
    ground: Checkpoint | None,
    drawn: Weights | None,
) -> tuple[Side, Side]:
    from adaptr.changes.deltas import deltas
    from adaptr.diffing.sides import AdapterSide, CheckpointSide, called

    named: dict[str, Target] = {}
    sides: dict[int, Side] = {}
    changes = {i: deltas(found.adapter, ground, weights=drawn) for i, found in enumerate(opened) if found is not None}
    names = called(changes[0], changes[1], ground) if len(changes) == 2 else [{}, {}]
    for i, change in changes.items():
        sides[i] = AdapterSide(labels[i], change, names[i])
        named |= sides[i].targets
    for i, root in enumerate(roots):
        if root is not None:
            assert ground is not None
            sides[i] = CheckpointSide(labels[i], ground, open_checkpoint(root), named)
    return sides[0], sides[1]


def _labels(a: What, b: What) -> tuple[str, str]:
    """The last names of two paths, longer where these are the same; what is no path as people call it."""
    one, two = _parts(a), _parts(b)
    n = 1
    while n < min(len(one), len(two)) and one[-n:] == two[-n:]:
        n += 1
    return "/".join(one[-n:]), "/".join(two[-n:])


def _parts(what: What) -> tuple[str, ...]:
    return what.path.absolute().parts if isinstance(what, Source) and what.here is not None else (label(what),)


def _targets(
    a: Side, b: Side, ground: Checkpoint | None, intruders: int, seed: int, progress: Progress | None
) -> tuple[TargetDiff, ...]:
    from adaptr.bulk import workers
    from adaptr.diffing.base import against_base
    from adaptr.diffing.measure import measure

    places = dict(a.targets) | dict(b.targets)
    for path in set(a.targets) & set(b.targets):
        _require_same_shape(a, b, path)
    meter = Meter(sum(_size(t) for t in places.values()), "comparing", progress)

    def one(path: str) -> TargetDiff | None:
        target, ops = places[path], (a.at(path), b.at(path))
        meter.add(_size(target))
        if ops == (None, None):
            return None
        found = measure(target, *ops, seed)
        return found if ground is None else against_base(found, ground, target, ops, intruders)

    order = sorted(places, key=lambda path: -_size(places[path]))
    results = dict(zip(order, map(workers.run(one, order).__getitem__, range(len(order))), strict=True))
    return tuple(found for path in places if (found := results[path]) is not None)


def _require_same_shape(a: Side, b: Side, path: str) -> None:
    one, two = a.targets[path], b.targets[path]
    if not agree(one.shape, two.shape) and not agree(two.shape, one.shape):
        raise ShapeError(
            f"`{path}` has shape {one.shape} in `{a.label}` and {two.shape} in `{b.label}`: they are for different "
            "models",
            hint="compare what they say of themselves with `--header`",
        )


def _size(target: Target) -> int:
    size = 2
    for n in target.shape:
        size *= max(n, 1)
    return size


def _others(a: Mapping[str, tuple[str, Tensor]], b: Mapping[str, tuple[str, Tensor]]) -> tuple[Other, ...]:
    """Biases and whole tensors that are not equal."""
    from adaptr.diffing.sides import same_bytes

    found = []
    for name in sorted({*a, *b}):
        what = (a.get(name) or b[name])[0]
        if name not in a or name not in b:
            state: State = "only a" if name in a else "only b"
            found.append(Other(name, what, state))
            continue
        one, two = a[name][1], b[name][1]
        if one.shape != two.shape:
            found.append(Other(name, what, "changed"))
        elif not same_bytes(one, two):
            found.append(Other(name, what, "changed", float((one.double() - two.double()).norm())))
    return tuple(found)


def _notes(targets: Sequence[TargetDiff]) -> tuple[str, ...]:
    from adaptr.diffing.measure import SPECTRUM

    rough = [t for t in targets if t.approximation]
    if not rough:
        return ()
    worst = max(t.approximation for t in rough)
    return (
        f"{len(rough)} changes have no factors: their spectra and angles are those of the leading {SPECTRUM} singular "
        f"vectors, which leave out up to {100 * worst:.0f} % of the size; norms and cosines are exact",
    )
