"""A head that the base's class does not have: which class does, and with how many labels."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import Any

from adaptr.errors import CheckpointError, MissingExtra, NotPossible, TargetMismatch
from adaptr.ops import tying
from adaptr.ops.sizes import Config, Shapes, labelled, parameters, resized
from adaptr.skeleton import imagined

ARCHITECTURES = "architectures"


def headed(config: Config, shapes: Shapes, new: Collection[str], wanted: Collection[str] = ()) -> Config | None:
    """`config` for a class that has the parameters `new` too, all of `shapes` being there; None where there is none.

    `wanted`: classes that adapters were trained on, or how their names end. Where several classes would do and none is
    wanted, the class stays as it is and the labels alone are said. Raises `NotPossible` where one is wanted that has
    more than is there.
    """
    found = [made for made in _made(config, shapes, new) if made is not None]
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
    for name in _kin(config):
        if not name.endswith(tuple(wanted)):
            continue
        own = {**config, ARCHITECTURES: [name]}
        have = parameters(own)
        lacking = _absent(own, have, shapes)
        if have.keys() >= set(new) and lacking:
            raise NotPossible(
                f"the adapter was trained on a {name}, which also has `{lacking[0]}`: neither the base nor the adapter "
                "holds it, so it was drawn at random in training and is lost; save it with the adapter "
                "(`modules_to_save`), or take a base that has it"
            )


def _made(config: Config, shapes: Shapes, new: Collection[str]) -> Iterator[Config | None]:
    for name in _kin(config):
        own = {**config, ARCHITECTURES: [name]}
        try:
            have = parameters(own)
            if not have.keys() >= set(new):
                continue
            head = {one: shapes[one] for one in new}
            made = own if all(have[one] == shapes[one] for one in new) else _fitted(own, shapes, head, have)
            yield made if _whole(made, shapes) else None
        except (CheckpointError, MissingExtra, TargetMismatch, RuntimeError, ValueError, TypeError):
            continue


def _fitted(config: Config, shapes: Shapes, head: Shapes, have: Shapes) -> Config:
    """The configuration with as many labels as the head has rows, or whatever else makes it fit."""
    rows = {shape[0] for name, shape in head.items() if shape and have[name] != shape}
    made = labelled(config, rows.pop()) if len(rows) == 1 else config
    return resized(made, shapes, head)


def _whole(config: Config, shapes: Shapes) -> bool:
    """Whether every parameter of the class is there, itself or by a tie."""
    return not _absent(config, parameters(config), shapes)


def _absent(config: Config, have: Collection[str], shapes: Shapes) -> list[str]:
    tied = {name: group for group in tying.groups(config) for name in group}
    return [name for name in have if name not in shapes and not any(o in shapes for o in tied.get(name, ()))]


def possible(model: Any, names: Collection[str]) -> bool:
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


def _kin(config: Config) -> list[str]:
    """The classes that transformers has beside a configuration's own."""
    return _beside(type(imagined(config)))


def _beside(model: type) -> list[str]:
    module = sys.modules[model.__module__]
    return sorted(n for n in getattr(module, "__all__", ()) if "For" in n and n != model.__name__)
