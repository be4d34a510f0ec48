"""Which rule of a policy a reference falls under. One place has one name, however it is written."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from adaptr.registry.client import address

if TYPE_CHECKING:
    from adaptr.registry.reference import Reference

_PLACE = re.compile(r"((?:[a-z][a-z0-9+.-]*://)?)([^/]+)(/.*)?\Z", re.DOTALL)


def names(reference: Reference) -> frozenset[str]:
    """All names of a reference: with and without tag and digest, as written and in the one form of its place."""
    return frozenset(name for one in (reference, _canonical(reference)) for name in _written(one))


def _written(reference: Reference) -> Iterable[str]:
    start = f"{reference.scheme}://" if reference.scheme else ""
    place = "/".join(part for part in (reference.host, reference.name.strip("/")) if part)
    return (str(reference), f"{start}{place}", reference.local)


def _canonical(reference: Reference) -> Reference:
    """The same place: hosts in one form, Hub names without case, paths and URLs without detours."""
    host, name = address.canonical(reference.host) if reference.host else "", reference.name
    if reference.scheme == "hf":
        name = name.lower()
    elif reference.scheme == "file":
        name = os.path.realpath(name)
    elif reference.scheme in {"https", "http"}:
        name = posixpath.normpath(unquote(name)) + ("/" if name.endswith("/") else "")
    return replace(reference, host=host, name=name)


def fits(named: Iterable[str], scope: str) -> bool:
    """Whether one of these names falls under a scope, in which `*` also stands for `/`."""
    forms = {scope, _scope(scope)}
    return any(fnmatch.fnmatchcase(name, form) for name in named for form in forms)


def _scope(scope: str) -> str:
    """A scope with its host in the one form; one with wildcards in it stays but for its case."""
    if scope.startswith("hf://"):
        return scope.lower()
    found = _PLACE.match(scope)
    if found is None or found[1] == "file://":
        return scope
    host, rest = found[2], found[3] or ""
    if not found[1] and not ({".", ":"} & set(host) or host == "localhost"):
        return scope
    wild = any(mark in host.removeprefix("[").removesuffix("]") for mark in "*?[")
    return f"{found[1]}{host.lower() if wild else address.canonical(host)}{rest}"
