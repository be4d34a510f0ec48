"""The manifest: what an adapter file says of itself, as canonical JSON (RFC 8785) under `adaptr` in the header's metadata.

Unknown optional fields are kept. What a reader must understand is listed in `requires`; a file of a higher `format` or with
an unknown requirement is refused, never guessed at.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rfc8785

from adaptr import errors as e
from adaptr.adapter import KINDS, REPLACED, Adapter, Base, Part, Target

if TYPE_CHECKING:
    from adaptr.format.header import Header

FORMAT = 1
FEATURES = frozenset({"parts", "quantized", "replaced"})
KEY = "adaptr"
MAX_DEPTH = 32
MAX_TEXT = 1_000_000

_TEXT = ("name", "release", "summary", "license")
_KNOWN = {
    "format", "requires", "method", "parts", "base", "targets", "lineage", "training", "quantization", "foreign", "tags",
    *_TEXT,
}  # fmt: skip


# ---------------------------------------------------------------- writing


def dump(adapter: Adapter) -> str:
    """The manifest of an adapter, canonical. Equal adapters give equal text."""
    document: dict[str, Any] = {
        **adapter.extra,
        "format": FORMAT,
        "method": _method(adapter),
        "targets": {path: _target(t) for path, t in adapter.targets.items()},
    }
    requires = sorted({*adapter.requires, *_features(adapter)})
    optional = {
        "requires": requires,
        "parts": {name: {"method": _method(p), "targets": {k: _target(t) for k, t in p.targets.items()}} for name, p in adapter.parts.items()},
        "base": {k: v for k, v in dataclasses.asdict(adapter.base).items() if v},
        "tags": list(adapter.tags),
        **{name: getattr(adapter, name) for name in (*_TEXT, "lineage", "training", "quantization", "foreign")},
    }  # fmt: skip
    document.update({key: value for key, value in optional.items() if value})
    return canonical(document)


def canonical(document: Any) -> str:
    """RFC 8785. Raises `FieldInvalid` for what JSON can't carry exactly."""
    try:
        return rfc8785.dumps(document).decode()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise e.FieldInvalid(f"the manifest can't be written as JSON: {error}") from None


def _features(adapter: Adapter) -> set[str]:
    found = {"parts"} if adapter.parts else set()
    if adapter.quantization:
        found.add("quantized")
    if any(key.endswith(f":{REPLACED}") for key in adapter.tensors):
        found.add("replaced")
    return found


def _method(a: Adapter | Part) -> dict[str, Any]:
    return {"name": a.method, "version": a.version, "config": dict(a.config)}


def _target(target: Target) -> dict[str, Any]:
    return {"kind": target.kind, "shape": list(target.shape), "config": dict(target.config)}


# ---------------------------------------------------------------- reading


def load(header: Header) -> dict[str, Any]:
    """The manifest of a header as a checked document."""
    text = header.metadata.get(KEY)
    if text is None:
        raise e.ManifestMissing("this safetensors file has no adaptr manifest; `adaptr convert` reads other formats")
    try:
        document = json.loads(text)
    except RecursionError:
        raise e.ManifestTooDeep("the manifest nests too deep") from None
    except ValueError as error:
        raise e.ManifestNotJson(f"the manifest is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise e.ManifestNotJson("the manifest is not a JSON object")
    _bounded(document, 1)
    version = document.get("format")
    if version is None:
        raise e.FieldMissing("the manifest has no `format`")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise e.FieldInvalid(f"`format` is {version!r}, wanted a positive integer")
    if version > FORMAT:
        raise e.FormatTooNew(f"the file has format {version}, this adaptr reads up to {FORMAT}; upgrade adaptr")
    if canonical(document) != text:
        raise e.ManifestNotCanonical("the manifest is not canonical JSON (RFC 8785), so its digest means nothing")
    unknown = sorted(set(_strings(document, "requires")) - FEATURES)
    if unknown:
        raise e.FeatureUnknown(f"the file requires `{unknown[0]}`, which this adaptr does not know; upgrade adaptr")
    return document


def _bounded(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise e.ManifestTooDeep(f"the manifest nests deeper than {MAX_DEPTH} levels")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise e.FieldInvalid(f"a text of {len(value)} characters, the limit is {MAX_TEXT}")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _bounded(child, depth + 1)


def adapter(document: Mapping[str, Any], tensors: Mapping[str, Any], source: str = "") -> Adapter:
    """An adapter from a checked document. Raises `FieldMissing` or `FieldInvalid` with the field's path."""
    method = _read_method(document, "method")
    parts = {}
    for name, part in _mapping(document, "parts").items():
        inner = _object(part, f"parts.{name}")
        parts[name] = Part(
            **_read_method(inner, f"parts.{name}.method"), targets=_read_targets(inner, f"parts.{name}.")
        )
    return Adapter(
        **method,
        targets=_read_targets(document, ""),
        tensors=tensors,
        parts=parts,
        base=_read_base(document),
        tags=tuple(_strings(document, "tags")),
        requires=tuple(_strings(document, "requires")),
        extra={k: v for k, v in document.items() if k not in _KNOWN},
        source=source,
        **{name: _text(document, name) for name in _TEXT},
        **{name: _mapping(document, name) for name in ("lineage", "training", "quantization", "foreign")},
    )


def _read_method(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    found = _object(_required(document, "method", where), where)
    name, version = _required(found, "name", where), _required(found, "version", where)
    if not isinstance(name, str) or not name:
        raise e.FieldInvalid(f"`{where}.name` is {name!r}, wanted a method's name")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise e.FieldInvalid(f"`{where}.version` is {version!r}, wanted a positive integer")
    return {"method": name, "version": version, "config": _object(_required(found, "config", where), f"{where}.config")}


def _read_targets(document: Mapping[str, Any], prefix: str) -> dict[str, Target]:
    found = _object(_required(document, "targets", f"{prefix}targets"), f"{prefix}targets")
    return {path: _read_target(path, value, f"{prefix}targets.{path}") for path, value in found.items()}


def _read_target(path: str, value: Any, where: str) -> Target:
    fields = _object(value, where)
    kind, shape = _required(fields, "kind", where), _required(fields, "shape", where)
    if kind not in KINDS:
        raise e.FieldInvalid(f"`{where}.kind` is {kind!r}; known: {', '.join(sorted(KINDS))}")
    ranks = {
        "experts": 3,
        "experts_t": 3,
        "attention": 2,
        "norm": 1,
        "module": 1,
        "model": 1,
        "conv1d": 3,
        "conv2d": 4,
        "conv3d": 5,
    }
    good = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not good or len(shape) != ranks.get(kind, 2):
        raise e.FieldInvalid(f"`{where}.shape` is {shape!r}, wanted {ranks.get(kind, 2)} positive integers")
    return Target(path, kind, tuple(shape), _object(fields.get("config", {}), f"{where}.config"))


def _read_base(document: Mapping[str, Any]) -> Base:
    found = _mapping(document, "base")
    texts = {
        name: _text(found, name) for name in ("id", "revision", "architecture", "structure", "content", "quantization")
    }
    ties = found.get("ties", [])
    if not isinstance(ties, list) or not all(isinstance(t, list) and all(isinstance(n, str) for n in t) for t in ties):
        raise e.FieldInvalid("`base.ties` must be lists of parameter names")
    return Base(**texts, ties=tuple(tuple(t) for t in ties))


def _required(document: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in document:
        raise e.FieldMissing(f"the manifest has no `{where if where.endswith(key) else f'{where}.{key}'}`")
    return document[key]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise e.FieldInvalid(f"`{where}` is {type(value).__name__}, wanted an object")
    return value


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    return _object(document.get(key, {}), key)


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise e.FieldInvalid(f"`{key}` is {type(value).__name__}, wanted text")
    return value


def _strings(document: Mapping[str, Any], key: str) -> list[str]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise e.FieldInvalid(f"`{key}` must be a list of texts")
    return value
