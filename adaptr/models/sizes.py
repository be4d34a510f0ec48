"""What a configuration must say otherwise for its model to have tensors of other sizes: vocabularies, labels, anything.

No table of fields is kept. A field is the one if, set to the new size, it gives the class the shapes that are there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint.built import imagined
from adaptr.errors import CheckpointError, MissingExtra, TargetMismatch

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

Config = Mapping[str, Any]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Way = tuple[str, ...]
#: How many labels a head has is said by their names.
LABELS, NUMBERS = "id2label", "label2id"


def classes(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """The names of the classes that a head which adapters bring was trained on, if they agree on them; else ()."""
    said = [adapter.training.get("labels") for adapter in adapters if adapter.replaced_paths]
    known = {tuple(map(str, one)) for one in said if isinstance(one, list | tuple) and one}
    return known.pop() if len(known) == 1 else ()


def resized(config: Config, shapes: Shapes, new: Shapes) -> Config:
    """`config` such that its model has the parameters `new`, and all of `shapes` that it has now.

    Raises `TargetMismatch` where no field makes it so.
    """
    have = parameters(config)
    wanted = {**{name: shape for name, shape in shapes.items() if have.get(name) == shape}, **new}
    wrong = _wrong(have, wanted)
    while wrong:
        better = _better(config, wanted, wrong)
        if better is None:
            raise TargetMismatch(
                f"`{wrong[0]}` would have shape {wanted[wrong[0]]}, in the base's model it has "
                f"{have[wrong[0]]}, and no field of the configuration makes the model fit all tensors: a table "
                "and its head grow together",
                hint="train both, or neither",
            )
        config, wrong = better
        have = parameters(config)
    return config


def parameters(config: Config) -> dict[str, Shape]:
    """The parameters of a configuration's class, by name, and the buffers that are saved with them."""
    return {name: tuple(p.shape) for name, p in imagined(config).state_dict().items()}


def _wrong(have: Shapes, wanted: Shapes) -> list[str]:
    return sorted(name for name, shape in wanted.items() if have.get(name, shape) != shape)


def _better(config: Config, wanted: Shapes, wrong: list[str]) -> tuple[Config, list[str]] | None:
    """A configuration, and what is wrong with it: less than it was, and nothing else."""
    have = parameters(config)
    sizes = dict.fromkeys(
        (old, now) for name in wrong for old, now in zip(have[name], wanted[name], strict=False) if old != now
    )
    for made in (made for old, now in sizes for made in _candidates(config, old, now)):
        try:
            left = _wrong(parameters(made), wanted)
        except (CheckpointError, MissingExtra, RuntimeError, ValueError, TypeError, AssertionError):
            continue
        if set(left) < set(wrong):
            return made, left
    return None


def _candidates(config: Config, old: int, now: int) -> Iterator[Config]:
    """Configurations with what is `old` set to `now`: vocabularies, then labels, then all else."""
    full: dict[str, Any] = imagined(config).config.to_dict()  # type: ignore[union-attr, operator]
    keys: dict[str, list[Way]] = {}
    for way in _ways(full, old):
        keys.setdefault(way[-1], []).append(way)
    first = [ways for key, ways in sorted(keys.items()) if "vocab" in key]
    rest = [ways for key, ways in sorted(keys.items()) if "vocab" not in key]
    yield from (_set(config, some, now) for ways in first for some in _some(ways))
    if len(full.get(LABELS) or ()) == old:
        yield labelled(config, now)
    yield from (_set(config, some, now) for ways in rest for some in _some(ways))


def _some(ways: list[Way]) -> list[list[Way]]:
    """All fields of one name together, then each."""
    return [ways, *([way] for way in ways if len(ways) > 1)]


def _ways(part: object, size: int, above: Way = ()) -> Iterator[Way]:
    """Where a configuration says `size`."""
    if isinstance(part, dict):
        for key, value in part.items():
            if type(value) is int and value == size:
                yield (*above, key)
            yield from _ways(value, size, (*above, key))


def _set(config: Config, ways: list[Way], now: int) -> Config:
    made = copy.deepcopy(dict(config))
    for *above, key in ways:
        part = made
        for step in above:
            part = part.setdefault(step, {})
        part[key] = now
    return made


def labelled(config: Config, count: int, names: Mapping[str, str] | None = None) -> Config:
    """`config` with `count` labels: of `names`, by their numbers, or numbered."""
    said = {str(i): (names or {}).get(str(i), f"LABEL_{i}") for i in range(count)}
    rest = {key: value for key, value in config.items() if key not in {"num_labels", "_num_labels"}}
    return {**rest, LABELS: said, NUMBERS: {name: int(number) for number, name in said.items()}}
