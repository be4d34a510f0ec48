"""The adapters that go into a composition: opened, named by digest, held against each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Base, Target, agree
from adaptr.adapter.weighting import Weight, checked
from adaptr.errors import ContentMismatch, TargetAmbiguous, TargetMismatch, UsageError, WrongBase
from adaptr.models.belonging import same_name
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Parent:
    """One input. `named`: as the lineage names it, by digests and never by its place."""

    adapter: Adapter
    weight: Weight
    named: Mapping[str, Any]

    @property
    def weights(self) -> str:
        """The weights digest."""
        return str(self.named["weights"])

    @property
    def label(self) -> str:
        return self.adapter.label


def opened(source: Given, weight: object, base: nn.Module | Path | None = None, want: str = "") -> Parent:
    """An input. Raises `UsageError` if `want` is another digest, of its weights or of its file."""
    found = open_adapter(one(source), base)
    parent = Parent(found.adapter, checked(weight, found.given), of_opened(found))
    known = (parent.named.get("digest"), parent.weights)
    if want and want not in known:
        raise UsageError(
            f"`{parent.label}` has digest {known[0] or known[1]}, the recipe wants {want}",
            hint="get that one, or put the new digest into the recipe",
        )
    return parent


def require_different(parents: Sequence[Parent]) -> None:
    """Raises `UsageError` for an adapter that is given twice."""
    seen: list[Parent] = []
    for parent in parents:
        same = next((one for one in seen if _same(one, parent)), None)
        if same is not None:
            raise UsageError(
                f"`{parent.label}` is given twice (also as `{same.label}`)",
                hint="give it once, with the sum of the weights",
            )
        seen.append(parent)


def _same(one: Parent, two: Parent) -> bool:
    """Whether they are one adapter: the same numbers, used in the same way, as scales are no tensors."""
    a, b = one.adapter, two.adapter
    return one.weights == two.weights and a.method == b.method and _configs(a) == _configs(b)


def _configs(adapter: Adapter) -> list[tuple[str, str, object]]:
    """What is said and what is not: files of before a field came have it as it is where nothing is said."""
    return [
        (
            part,
            target.path,
            plugins.method(adapter.parts[part].method if part else adapter.method).config(target.config),
        )
        for part, target in adapter.all_targets
    ]


def require_one_base(parents: Sequence[Parent]) -> Base:
    """The base of all. Raises `WrongBase` or `ContentMismatch` for two that are known to differ."""
    known = parents[0].adapter.base
    for parent in parents[1:]:
        _compare(parents[0], parent)
        known = _joined(known, parent.adapter.base)
    alike = all(paths_of(parent) == paths_of(parents[0]) for parent in parents)
    return known if alike else replace(known, content="")


def _compare(one: Parent, two: Parent) -> None:
    a, b = one.adapter.base, two.adapter.base
    if a.structure and b.structure and a.structure != b.structure:
        raise WrongBase(
            f"`{one.label}` and `{two.label}` belong to bases of different structure ({a.id or 'unnamed'}, "
            f"{b.id or 'unnamed'}): their deltas can't be added",
            hint="compose adapters of one base",
        )
    if a.content and b.content and paths_of(one) == paths_of(two) and a.content != b.content:
        raise ContentMismatch(
            f"`{one.label}` and `{two.label}` were trained on bases of the same structure and other weights "
            f"({a.id or 'unnamed'}, {b.id or 'unnamed'})",
            hint="compose adapters of one base",
        )
    if not (a.structure and b.structure) and a.id and b.id and not same_name(a.id, b.id):
        raise WrongBase(
            f"`{one.label}` names the base `{a.id}`, `{two.label}` names `{b.id}`, and nothing else is known of them",
            hint="if they are one model, say so with `--any-base`",
        )


def _joined(a: Base, b: Base) -> Base:
    """What is known of a base from either side; where they name it differently, the first."""
    fields = ("id", "revision", "architecture", "structure", "content", "ties", "quantization")
    return Base(**{name: getattr(a, name) or getattr(b, name) for name in fields})


def paths_of(parent: Parent) -> set[str]:
    """The paths of all its targets."""
    return {target.path for _, target in parent.adapter.all_targets}


def require_one_spelling(paths: Sequence[Iterable[str]], labels: Sequence[str]) -> None:
    """Raises `TargetAmbiguous` where inputs name a place by the same words in another order, as `model.language_model`
    and `language_model.model` of one model: which of two names is the base's own, the base alone says.
    """
    seen: dict[Hashable, tuple[str, str]] = {}
    for mine, label in zip(paths, labels, strict=True):
        for path in mine:
            other, first = seen.setdefault(_words(path), (path, label))
            if other != path:
                raise TargetAmbiguous(
                    f"`{other}` of `{first}` and `{path}` of `{label}` look like two names of one place, which would "
                    "count as two",
                    hint="give the base (`--base`), which knows its own",
                )


def _words(path: str) -> Hashable:
    """The words of a path in any order, its numbers in theirs: expert 1 of layer 0 is not expert 0 of layer 1."""
    words = path.split(".")
    return tuple(sorted(words)), tuple(word for word in words if word.isdecimal())


def joined_targets(parents: Sequence[Sequence[Target]], labels: Sequence[str]) -> dict[str, Target]:
    """All targets by path. Raises `TargetMismatch` where two describe one place differently."""
    found: dict[str, tuple[Target, str]] = {}
    for target, label in _each(parents, labels):
        if target.path not in found:
            found[target.path] = (target, label)
            continue
        other, first = found[target.path]
        fits = agree(target.shape, other.shape) or agree(other.shape, target.shape)
        if target.kind != other.kind or not fits:
            raise TargetMismatch(
                f"`{target.path}`",
                got=f"a {other.kind} of shape {other.shape} for `{first}`",
                want=f"a {target.kind} of shape {target.shape} as for `{label}`: they belong to different bases",
                hint="compose adapters of one base",
            )
        known = tuple(a or b for a, b in zip(other.shape, target.shape, strict=True))
        found[target.path] = (replace(other, shape=known), first)
    return {path: target for path, (target, _) in found.items()}


def _each(parents: Sequence[Sequence[Target]], labels: Sequence[str]) -> Iterator[tuple[Target, str]]:
    for targets, label in zip(parents, labels, strict=True):
        for target in targets:
            yield target, label
