"""What two adapters say of themselves, compared field by field, without torch and without a base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adaptr.diffing.report import Field
from adaptr.format import digest
from adaptr.format.manifest import document
from adaptr.sources.open import Opened

WEIGHTS = "weights"


def header_fields(a: Opened, b: Opened) -> tuple[Field, ...]:
    """The fields that differ. `weights` is the digest of all tensors."""
    one, two = dict(_flat("", _described(a))), dict(_flat("", _described(b)))
    both: dict[str, Any] = {WEIGHTS: (digest.of_adapter(a.adapter), digest.of_adapter(b.adapter))}
    both |= {name: (one.get(name), two.get(name)) for name in {**one, **two}}
    return tuple(Field(name, *values) for name, values in sorted(both.items()) if values[0] != values[1])


def _described(opened: Opened) -> dict[str, Any]:
    """The manifest; `foreign`, which only says how to write the other format again, left out."""
    found = document(opened.adapter)
    found.pop("foreign", None)
    return {**found, "targets": {path: _target(value) for path, value in found["targets"].items()}}


def _target(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": value["kind"], "shape": value["shape"], **{f"config.{k}": v for k, v in value["config"].items()}}


def _flat(prefix: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value
