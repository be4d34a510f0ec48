"""What is said in many places, worded once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

from adaptr.errors.artifacts import DigestMismatch
from adaptr.errors.base import AdaptrError
from adaptr.errors.inputs import InputError, ShapeError
from adaptr.errors.machine import MissingExtra
from adaptr.errors.models import NotPossible, TargetNotFound
from adaptr.errors.text import shown

E = TypeVar("E", bound=AdaptrError)
#: Names that a message lists.
LISTED = 12
#: The way on where a file of another tool contradicts itself ...
AGAIN = "save it again with the tool that wrote it"
#: ... where bytes are not what they were ...
FETCH = "it is damaged or cut off: get it again"
#: ... where another format has no place for something, ...
OWN = "keep it in adaptr's own format"
#: ... and where a base is not the one that an adapter is for.
BASE = "give the base that it was trained on"
#: What trainers of reinforcement call the head that scores texts, beside the model.
VALUE_HEADS = frozenset({"v_head", "value_head", "ilql_heads"})


def meant(name: str, known: Iterable[str], most: int = 3) -> str:
    """Which of `known` a name that is none of them may have been meant for: a question, or ""."""
    near = difflib.get_close_matches(name, list(known), n=most, cutoff=0.5)
    *first, last = [f"`{one}`" for one in near] or [""]
    return f"did you mean {', '.join(first)}{' or ' if first else ''}{last}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The way on where a base has no such name: the one most like it, or another base."""
    if name.partition(".")[0] in VALUE_HEADS:
        return (
            "it is a value head, which scores texts while a model is trained by reinforcement: give a model with one "
            "(TRL's `AutoModelForCausalLMWithValueHead`), or the adapter without it"
        )
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"the nearest name is `{near[0]}`" if near else BASE


def listed(names: Iterable[str]) -> str:
    """Names as a message has them: no more than help."""
    found = list(names)
    return ", ".join(found[:LISTED]) + (f" and {len(found) - LISTED} more" if len(found) > LISTED else "")


def unknown(error: type[E], what: str, name: str, known: Collection[str], some: str = "known") -> E:
    """`what` (such as "there is no format") `name`, and which of `known` it may be; `some` is what those are called."""
    question = meant(name, known)
    return error(f"{what} `{shown(name)}`", hint=f"{question}{question and ' '}{some}: {listed(known) or 'none'}")


def misshapen(
    what: str,
    got: Sequence[int],
    want: Sequence[int],
    error: type[AdaptrError] = ShapeError,
    by: str = "",
    hint: str = "",
) -> AdaptrError:
    """Something has another shape than is wanted, `by` whom or why."""
    return error(what, verb="has", got=f"shape {tuple(got)}", want=f"{tuple(want)}{by and f' {by}'}", hint=hint)


def nothing_at(place: object, hint: str = "") -> InputError:
    return InputError(
        f"there is nothing at `{place}`", hint=" ".join(filter(None, (near(str(place)), hint))) or "look at the path"
    )


def near(place: str) -> str:
    """Which files or folders a path at which nothing is may have been meant for: a question, or ""; of a link to
    nothing, that it is one.
    """
    if os.path.islink(place) and not os.path.exists(place):
        return f"it is a link to `{os.readlink(place)}`, which is not there"
    folder, name = os.path.split(place.rstrip("/"))
    while folder and not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    try:
        there = os.listdir(folder or ".") if name else []
    except OSError:
        return ""
    whole = [one for one in sorted(there) if one.rpartition(".")[0] == name]
    found = whole[:2] or difflib.get_close_matches(name, sorted(there), n=2)
    near = [os.path.join(folder, one) for one in found]
    return f"did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""


def no_targets(label: str, doing: str) -> TargetNotFound:
    """An adapter without targets; `doing` what with it would change nothing."""
    return TargetNotFound(
        f"adapter `{label}` has no targets: {doing} it would change nothing",
        hint="look at it with `adaptr inspect`; it may have been saved unfinished",
    )


def drawn_otherwise(what: str, found: str, wanted: str, hint: str) -> DigestMismatch:
    """What is drawn again from a seed, and is not what an adapter was trained with; `found`, `wanted`: digests."""
    return DigestMismatch(
        what, verb="have", got=f"the digest {found}", want=f"{wanted}, with which the adapter was trained", hint=hint
    )


def no_strength(path: str, label: str, weight: float, error: type[NotPossible] = NotPossible) -> NotPossible:
    """A parameter that an adapter replaces as a whole, and that was to be replaced by a part of the way."""
    return error(
        f"`{path}` is replaced as a whole by `{label}`, which has no strength {weight:g}",
        hint="give that adapter the weight 1, or leave it out",
    )


def extra(what: str, package: str, name: str) -> MissingExtra:
    """An optional package that `what` needs, and the extra `name` that brings it."""
    return MissingExtra(f"{what} needs `{package}`, which is not installed", hint=f"`pip install 'adaptr[{name}]'`")
