"""A head that the base's class does not have: which class does, and with how many labels."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import suppress

from adaptr.checkpoint.built import imagined
from adaptr.errors import CheckpointError, MissingExtra, NotPossible, TargetMismatch
from adaptr.models import tying
from adaptr.models.sizes import Config, Shapes, labelled, parameters, resized

ARCHITECTURES = "architectures"
#: What building a class for a configuration that is another's may raise.
UNBUILT = (CheckpointError, MissingExtra, TargetMismatch, RuntimeError, ValueError, TypeError)


def headed(config: Config, shapes: Shapes, new: Collection[str], wanted: Collection[str] = ()) -> Config | None:
    """`config` for a class that has the parameters `new` too, all of `shapes` being there; None where there is none.

    `wanted`: classes that adapters were trained on, or how their names end. Where several classes would do and none is
    wanted, the class stays as it is and the labels alone are said. Raises `NotPossible` where one is wanted that has
    more than is there.
    """
    found = list(_made(config, shapes, new))
    chosen = [made for made in found if made[ARCHITECTURES][0].endswith(tuple(wanted))]
    if not chosen:
        _refuse_lacking(config, shapes, new, wanted)
    chosen = chosen or found
    if len(chosen) == 1 or not chosen:
        return chosen[0] if chosen else None
    said = [{**made, ARCHITECTURES: config[ARCHITECTURES]} for made in chosen]
    return said[0] if all(one == said[0] for one in said) else None


def _refuse_lacking(config: Config, shapes: Shapes, new: Collection[str], wanted: Collection[str]) -> None:
    """Raises `NotPossible` where the class that adapters were trained on has layers that were drawn and never saved."""
    for own, have in _classes(config, new):
        name = own[ARCHITECTURES][0]
        lacking = _absent(own, have, shapes) if name.endswith(tuple(wanted)) else []
        if lacking:
            raise NotPossible(
                f"the adapter was trained on a {name}, which also has `{lacking[0]}`: neither the base nor the adapter "
                "holds it, so it was drawn at random in training and is lost",
                hint="save it with the adapter (`modules_to_save`), or take a base that has it",
            )


def _made(config: Config, shapes: Shapes, new: Collection[str]) -> Iterator[Config]:
    for own, have in _classes(config, new):
        head = {one: shapes[one] for one in new}
        with suppress(*UNBUILT):
            made = own if all(have[one] == shapes[one] for one in new) else _fitted(own, shapes, head, have)
            if not _absent(made, parameters(made), shapes):
                yield made


def _classes(config: Config, new: Collection[str]) -> Iterator[tuple[Config, Shapes]]:
    """The configuration for each other class that has these parameters, and all that this class has."""
    for name in _beside(type(imagined(config))):
        own = {**config, ARCHITECTURES: [name]}
        with suppress(*UNBUILT):
            have = parameters(own)
            if have.keys() >= set(new):
                yield own, have


def _fitted(config: Config, shapes: Shapes, head: Shapes, have: Shapes) -> Config:
    """The configuration with as many labels as the head has rows, or whatever else makes it fit."""
    rows = {shape[0] for name, shape in head.items() if shape and have[name] != shape}
    made = labelled(config, rows.pop()) if len(rows) == 1 else config
    return resized(made, shapes, head)


def _absent(config: Config, have: Collection[str], shapes: Shapes) -> list[str]:
    """The parameters of a class that are not there, neither themselves nor by a tie."""
    tied = {name: group for group in tying.groups(config) for name in group}
    return [name for name in have if name not in shapes and not any(o in shapes for o in tied.get(name, ()))]


def possible(model: object, names: Collection[str]) -> bool:
    """Whether a class beside the model's own has all these parameters: they are of a head that an adapter brings."""
    import torch

    module, config = sys.modules[type(model).__module__], getattr(model, "config", None)
    for name in _beside(type(model)) if config is not None else ():
        try:
            with torch.device("meta"):
                found = getattr(module, name)._from_config(config).state_dict().keys()
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError):
            continue
        if found >= set(names):
            return True
    return False


def _beside(model: type) -> list[str]:
    """The classes that transformers has beside a model's own."""
    module = sys.modules[model.__module__]
    return sorted(n for n in getattr(module, "__all__", ()) if "For" in n and n != model.__name__)
