"""What a text names: decided here and nowhere else, at the edge, once.

A path that exists, be it a link to nowhere, is that path. A reference has a scheme, `oci://`, `hf://`, .... Anything
else is a name in the store; where the store has none of it, `org/name` in the Hub's cache of this user, which asks no
network; else a path at which there is nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import InputError, UsageError, phrases, shown
from adaptr.files import hub_cache
from adaptr.files.linked import snapshot
from adaptr.foreign.supplied import NOTHING, Supplied
from adaptr.registry import local, remotes
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference, is_reference, parse
from adaptr.registry.store import Store

if TYPE_CHECKING:
    from torch import nn


class Source:
    """An adapter, a checkpoint or an artifact as it was `given`: at a path, or in the store, or brought there when it
    is asked for. What was asked for once is known. `supplied`: what was said of it that its file may not hold.
    """

    def __init__(
        self, given: str, place: Path | None, name: Reference | str = "", supplied: Supplied = NOTHING
    ) -> None:
        self.given, self.place, self.supplied, self._name = given, place, supplied, name
        self._held: Digest | None = None
        self._view: Path | None = None

    def __str__(self) -> str:
        return self.given

    def __repr__(self) -> str:
        return f"<Source {shown(self.given)}>"

    @property
    def path(self) -> Path:
        """Its file or folder, pulled if it must be; of a folder of the Hub's cache the snapshot.

        Raises `PolicyError` for what this machine does not take, and what pulling raises.
        """
        if self.place is not None:
            return snapshot(self.place)
        if self._view is None:
            self._view = local.view(self.artifact(), self.given)
        return self._view

    @property
    def here(self) -> Path | None:
        """The path of what lies on this machine without being pulled; None for an artifact."""
        return None if self.place is None else self.path

    def artifact(self, held: bool = True) -> Digest:
        """The manifest's digest, of what is no path. `held`: against this machine's policy; what is to be signed is not
        asked for the signature.
        """
        assert self._name, "a path has no manifest"
        if self._held is not None:
            return self._held
        if isinstance(self._name, Reference):
            found = local.pull(self._name, Store.default(), held=held).digest
        else:
            found = local.named(self._name, held)
        self._held = found if held else None
        return found

    def supplying(self, supplied: Supplied) -> Source:
        """The same, with what is said of it."""
        return Source(self.given, self.place, self._name, supplied)

    def require_there(self) -> None:
        """Raises `InputError` where a path has nothing, whose text might have been meant as a name."""
        if self.place is not None and not os.path.lexists(self.place):
            raise InputError(
                f"there is nothing at `{self.place}`, and the store has no such name",
                hint=phrases.near(self.given) or local.near(self.given) or "`adaptr list` shows what it has",
            )


#: How people say where something is.
Place = str | os.PathLike[str] | Source


def resolve(given: Place, beside: Path | None = None) -> Source:
    """What `given` names. `beside`: the folder that a relative path is meant from, else where the process runs.

    Nothing is opened or pulled. Raises `BadReference` for a reference that is none, `UsageError` for what is no text or
    path.
    """
    if isinstance(given, Source):
        return given
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError("an adapter", got=f"`{shown(repr(given))}`", want="an adapter, or where one is")
    if isinstance(given, str) and is_reference(given):
        reference = parse(given)
        return Source(given, Path(reference.name)) if local.is_here(reference) else Source(given, None, reference)
    place = Path(text) if beside is None else beside / text
    if isinstance(given, str) and not os.path.lexists(place) and local.has(given):
        return Source(given, None, given)
    cached = _in_cache(given, place) if isinstance(given, str) else None
    return Source(text, place if cached is None else cached)


def _in_cache(given: str, place: Path) -> Path | None:
    """The folder of `org/name` in the Hub's cache, for what is neither a path nor a name in the store; not where the
    policy says something of it: then it is written `hf://`, which is held against that.
    """
    cached = None if os.path.lexists(place) else hub_cache.repository(given)
    if cached is not None:
        from adaptr.registry.signing import policy

        return None if policy.asks(parse(f"hf://{given}")) else cached
    return None


def source(
    given: Place,
    *,
    alpha: float | None = None,
    scale: float | None = None,
    enable_lora: Sequence[bool] | None = None,
    task: int | None = None,
    initial: str | os.PathLike[str] | None = None,
    reft: str | None = None,
    positions: str | None = None,
) -> Source:
    """An adapter by where it is, with what its file does not hold: it goes wherever an adapter is given.

    `alpha`, or `scale`, which is alpha / rank: of files without, such as loralib's and MLX's `.npz`. `enable_lora`:
    which parts of a fused projection have factors, as loralib was told. `task`: which of a file's tasks, from 0 on,
    where it is another adapter for each, as PEFT's Poly is. `initial`: where the adapter is as it was before training,
    of PEFT's initialisations that change the base. `reft`: `noreft` or `direft`, of AdapterHub's files, which are the
    same for both. `positions`: `f7+l7`, of pyreft's, at how many of a prompt's first and last tokens it was trained.
    What a file holds itself is refused when it is read. Raises `UsageError` for what makes no sense, and
    `BadReference`.
    """
    enabled, begun = None if enable_lora is None else tuple(enable_lora), None if initial is None else str(initial)
    return resolve(given).supplying(Supplied(alpha, scale, enabled, task, begun, reft, positions))


def grounded(base: nn.Module | Place | None) -> nn.Module | Path | None:
    """A base as the rooms take it: the path of what was named, or the live model (of a pipeline its own), or None."""
    if isinstance(base, str | os.PathLike | Source):
        return resolve(base).path
    inside = getattr(base, "model", None)
    return inside if hasattr(inside, "named_modules") and not hasattr(base, "named_modules") else base


def weighted(text: str) -> tuple[str, float]:
    """`A` or `A=WEIGHT`, as commands write an adapter. What exists under the whole text has no weight in it."""
    head, sign, tail = text.rpartition("=")
    if not sign or os.path.lexists(text) or head.endswith("#sha256"):  # that `=` pins a file's digest
        return text, 1.0
    try:
        weight = float(tail)
    except ValueError:
        if os.path.lexists(head) or is_reference(head) or local.has(head):
            raise UsageError(
                f"the weight `{tail}` of `{head}` is not a number", want="a number, such as `0.5`"
            ) from None
        return text, 1.0
    if not math.isfinite(weight):
        raise UsageError(f"the weight `{tail}` of `{head}` is not a finite number", want="a finite one")
    return head, weight


def namespace(given: Place) -> Reference:
    """Where artifacts are looked for: a folder here, what a reference names, or all that a remote has, by its scheme.

    Raises `UsageError` for anything else.
    """
    if not is_reference(given := str(given)) and os.path.lexists(given):
        return Reference("file", name=os.path.abspath(given))
    scheme, _, rest = given.partition("://")
    if not rest and remotes.SORT.has(scheme) and remotes.of(scheme).whole:
        return Reference(scheme)
    if is_reference(given):
        return parse(given)
    raise UsageError(
        f"`{shown(given)}` can't be searched",
        want="`hf://`, `hf://org`, `oci://host/namespace` or a layout's folder",
    )


def remote(text: str) -> Reference:
    """A place to push to, pull from or ask. Raises `UsageError` for a text that names none."""
    if not is_reference(text):
        raise UsageError(
            f"`{text}` names no remote",
            want="a reference such as `oci://host/name:tag` or `hf://org/name`",
            hint=_meant(text),
        )
    return parse(text)


def _meant(text: str) -> str:
    """How a reference begins that another tool takes without it: docker's has a host before its first stroke."""
    host, stroke, _ = text.partition("/")
    if not stroke or not host[:1].isalnum():
        return ""
    return f"say `{'oci' if {'.', ':'} & set(host) else 'hf'}://{text}`"
