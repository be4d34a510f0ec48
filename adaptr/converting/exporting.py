"""The names under which another tool finds an adapter's places: those of the base's live model, each held against it.

Without a base nothing proves a name. Then what training's wrappers leave between its parts is taken out, which changes
no meaning, and what no model calls a layer is refused.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import targets as places
from adaptr.adapter import Adapter
from adaptr.adapter.paths import bare, paths_of
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import open_checkpoint
from adaptr.checkpoint.skeleton import skeleton, sketched
from adaptr.errors import AdaptrError, CheckpointError, MissingExtra, TargetNotFound, Unsupported, WrongBase, phrases
from adaptr.foreign.peft.writing import TASKS
from adaptr.models.content import content_in_files
from adaptr.models.heads import possible
from adaptr.models.ties import weight_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

#: PEFT's task of models without a head.
HEADLESS = "FEATURE_EXTRACTION"
#: What only wrappers call a part of a model.
WRAPPERS = re.compile(r"(^module|(^|.*\.)(base_model|base_layer|original_module|modules_to_save))\..*", re.DOTALL)


def exported(adapter: Adapter, base: Any = None) -> Adapter:
    """`adapter` under the names that tools know, which is as it is where those are its own.

    `base`: a folder or a live model. Raises `TargetNotFound`, `TargetAmbiguous` or `TargetMismatch` for a place that
    it does not have; without it `Unsupported` for a name that no model can have.
    """
    if base is None:
        return _unwrapped(adapter)
    if _is_at_home(adapter, base):
        return adapter
    try:
        model = skeleton(base)
    except (CheckpointError, MissingExtra):
        return _in_files(adapter, Path(base))
    return _in_model(adapter, model, base)


def _is_at_home(adapter: Adapter, base: Any) -> bool:
    """Whether it is known without building the base that an adapter has its names, of the same shapes. It takes
    seconds to build one, to find what is called otherwise and to say what is wrong.
    """
    model: Any = sketched(base)  # which answers what is asked of a module here
    if model is None or not all(path in model.names for path in adapter.replaced_paths):
        return False
    try:
        for path, target in adapter.targets.items():
            if path not in adapter.grounds:
                places.match(model, target)
    except (WrongBase, AttributeError):
        return False
    return True


def _unwrapped(adapter: Adapter) -> Adapter:
    new = {path: bare(path) for path in paths_of(adapter) if bare(path) != path}
    found = adapter.renamed(new).replace(base=dataclasses.replace(adapter.base, content="")) if new else adapter
    bad = next((path for path in paths_of(found) if WRAPPERS.fullmatch(path)), None)
    if bad is not None:
        raise Unsupported(
            f"`{bad}` of `{adapter.label}` is no name that a model gives: a wrapper of training left a part of "
            "its own in it",
            hint="With the base (`--base`) the name is put right where the base proves what it was",
        )
    return found


def _in_model(adapter: Adapter, model: nn.Module, base: Any) -> Adapter:
    from adaptr.host.names import current
    from adaptr.host.spellings import has

    found = current(model, adapter)
    for path, target in found.targets.items():
        if path not in found.grounds or not has(model, path):  # else its shape is that of the table it brings
            places.match(model, target)
    new = [path for path in found.replaced_paths if not has(model, path)]
    if new and not possible(model, new):
        raise TargetNotFound(
            f"the base has no parameter `{new[0]}`, which `{adapter.label}` replaces", hint=phrases.nearest(new[0], ())
        )
    if paths_of(found).keys() == paths_of(adapter).keys():
        return found
    known = found.base if model is base else dataclasses.replace(found.base, content=_content(adapter, found, base))
    return found.replace(base=known, foreign=_of_class(found.foreign, type(model)))


def _of_class(foreign: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """A PEFT configuration that says which class has the names, saying the class that has the new ones."""
    kept = dict(foreign.get("peft", {}))
    config = dict(kept.get("config", {}))
    said = {name: config.get(name) for name in ("auto_mapping", "task_type")}
    task = next((task for end, task in TASKS if cls.__name__.endswith(end)), None)
    if said["task_type"] == HEADLESS and task != HEADLESS:
        config["task_type"] = task
    if said["auto_mapping"] or (said["task_type"] == HEADLESS and task is None):
        config["auto_mapping"] = {"base_model_class": cls.__name__, "parent_library": cls.__module__}
    same = all(config.get(name) == value for name, value in said.items())
    return dict(foreign) if same else {**foreign, "peft": {**kept, "config": config}}


def _content(before: Adapter, after: Adapter, base: str | Path) -> str:
    """The digest of the base's values under the new names: as it was where they are others, "" where there are none."""
    said = before.base.content
    try:
        names = Names(open_checkpoint(base))
    except AdaptrError:  # a folder with a configuration alone, or weights that can't be sampled
        return ""
    found = content_in_files(names, after.targets)
    return found if said in {found, content_in_files(names, before.targets)} else said


def _in_files(adapter: Adapter, base: Path) -> Adapter:
    """Where transformers does not know the model, the names of its tensors are all there is to hold others against."""
    names = Names(open_checkpoint(base))
    for target in adapter.targets.values():
        if target.weighted:
            weight_place(names, target)
    return adapter
