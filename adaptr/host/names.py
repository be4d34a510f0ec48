"""One parameter has many names: what a live model calls it is what counts, and every other spelling leads there.

A checkpoint on the Hub says `language_model.model.layers.0`, the model in memory `model.language_model.layers.0`, an
older transformers `encoder.layer.0.attention.attention.query` for `layers.0.attention.q_proj`, the text model alone
`model.layers.0`, and a wrapper of training puts `module.` before it. The list of renamings is transformers' own, and so
is the function that applies it: what `from_pretrained` makes of a key is what a key means here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from torch import nn

from adaptr.adapter import Adapter, Target, agree
from adaptr.adapter.paths import paths_of
from adaptr.errors import TargetAmbiguous
from adaptr.host.experts import part_of
from adaptr.host.identity import content_of
from adaptr.host.spellings import Spellings, has, spellings_of
from adaptr.targets import describe, submodule

#: Paths of an adapter and what is there; None for a parameter that it replaces.
Paths = Mapping[str, Target | None]


def current(model: nn.Module, adapter: Adapter) -> Adapter:
    """`adapter` with the names that `model` has now, or as it is where those it has are right or no renaming helps.

    Raises `TargetAmbiguous` where a name fits two places.
    """
    new = renamings(model, paths_of(adapter))
    if not new:
        return adapter
    found = adapter.renamed(new)
    content = _content(model, found, {now: old for old, now in new.items()})
    return found.replace(base=dataclasses.replace(found.base, content=content))


def formerly(now: Adapter, given: Adapter) -> dict[str, str]:
    """What `given` calls the places of the same adapter under its names of `now`, where these are others."""
    pairs = [*zip(now.targets, given.targets, strict=True), *zip(now.replaced_paths, given.replaced_paths, strict=True)]
    return {new: old for new, old in pairs if new != old}


def _content(model: nn.Module, adapter: Adapter, old: Mapping[str, str]) -> str:
    """The digest of the base's values, which has the names in it, under those that the adapter has now: "" where the
    values can't be read, and what it was where they are others.
    """
    said = adapter.base.content
    if not said or not all(has(model, path) or part_of(model, t) for path, t in adapter.targets.items()):
        return said
    found = content_of(model, adapter.targets)
    same = said in {found, content_of(model, adapter.targets, old)}
    return found if same or not found else said


def renamings(model: nn.Module, paths: Paths) -> dict[str, str]:
    """Old path to new, for those of `paths` that `model` has under another name.

    They are taken together: a part of the model is meant only if it has all that the whole has not. Raises
    `TargetAmbiguous` where two parts do, of the same shapes.
    """
    missing = {path: target for path, target in paths.items() if not has(model, path)}
    if not missing or _rows(missing) & _rows(set(paths) - set(missing)):
        return {}
    spellings = spellings_of(model)
    own = {path: new for path, target in missing.items() if (new := spellings.path(path, target))}
    rest = {path: target for path, target in missing.items() if path not in own}
    found = {**own, **(_in_a_part(model, spellings, rest) if rest and not _rows(rest) & _rows(own) else {})}
    _refuse_twice([*(path for path in paths if path not in missing), *found], found)
    return found


def _refuse_twice(paths: Iterable[str], new: Mapping[str, str]) -> None:
    """Raises `TargetAmbiguous` where two names of one adapter are one place."""
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(new.get(path, path), path)
        if other != path:
            raise TargetAmbiguous(
                f"`{other}` and `{path}` are one place in the base, `{new[path]}`",
                hint="leave one of them out: an adapter names a place once",
            )


def _rows(paths: Iterable[str]) -> set[str]:
    """The kinds of layer among `paths`. Of one kind all layers are found in one way: a model that has the first two and
    lacks the third is another model, wherever a third may be.
    """
    return {re.sub(r"\d+", "*", path) for path in paths}


def _in_a_part(model: nn.Module, spellings: Spellings, paths: Paths) -> dict[str, str]:
    """Where `paths` are in the one part of the model that has them all."""
    found: list[dict[str, str]] = []
    for prefix, part in spellings.parts:
        new = {p: f"{prefix}.{name}" for p, target in paths.items() if (name := part.path(p, target))}
        if len(new) == len(paths) and new not in found:
            found.append(new)
    if len(found) > 1:
        found = [new for new in found if all(_fits(model, new[p], target) for p, target in paths.items())] or found
    if len(found) > 1:
        path = next(iter(paths))
        places = " and as ".join(f"`{new[path]}`" for new in found)
        raise TargetAmbiguous(
            f"`{path}` is in the base as {places}, of the same shape: which of them the adapter was trained on "
            "is not known",
            hint="give its targets their full names",
        )
    return found[0] if found else {}


def _fits(model: nn.Module, path: str, target: Target | None) -> bool:
    """Whether the layer at `path` has the shape of `target`, as far as it can be told."""
    if target is None or not target.is_matrix:
        return True
    try:
        found = describe(path, submodule(model, path))
    except AttributeError:  # a stack of experts, which is a parameter
        return agree(tuple(model.get_parameter(path).shape), target.stored_shape)
    return found is not None and found.kind == target.kind and agree(found.shape, target.shape)
