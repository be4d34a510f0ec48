"""The manifest: what an adapter file says of itself, as canonical JSON under `adaptr` in the header's metadata.

Unknown optional fields at the top are kept. What a reader must understand is listed in `requires`; a file of a higher
`format` or with an unknown requirement is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from adaptr import errors as e
from adaptr.adapter import WHOLE, Adapter, Base, Part, Target, kinds
from adaptr.adapter.dequantize import REST
from adaptr.adapter.packed import BLOCKS
from adaptr.errors import phrases, shown
from adaptr.format import again, canonical

if TYPE_CHECKING:
    from adaptr.format.header import Header

FORMAT = 1
FEATURES = frozenset({"memory", "packed", "parts", "quantized", "replaced"})
KEY = "adaptr"
MAX_INT = 2**53 - 1

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PART = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

TEXTS = ("name", "release", "summary", "license")
OBJECTS = ("lineage", "training", "quantization", "foreign")
TABLE = '"targets":'
OWN = frozenset({"format", "requires", "method", "parts", "base", "targets", "tags", *TEXTS, *OBJECTS})


# ---------------------------------------------------------------- writing


def dump(adapter: Adapter) -> str:
    """The manifest of an adapter, canonical. Equal adapters give equal text."""
    return canonical.dumps(document(adapter))


def document(adapter: Adapter) -> dict[str, Any]:
    """The manifest of an adapter. Empty optional fields are left out."""
    optional = {
        "requires": sorted({*adapter.requires} - {"memory"} | _features(adapter)),
        "parts": {name: _part(part) for name, part in adapter.parts.items()},
        "base": _base(adapter.base),
        "tags": list(adapter.tags),
        **{name: getattr(adapter, name) for name in (*TEXTS, *OBJECTS)},
    }
    given = {key: value for key, value in optional.items() if value}
    return {**adapter.extra, "format": FORMAT, **_method_and_targets(adapter), **given}


def _features(adapter: Adapter) -> set[str]:
    replaced = any(key.endswith(WHOLE) for key in adapter.tensors)
    packed = adapter.quantization and any(key.endswith((*BLOCKS, REST)) for key in adapter.tensors)
    used: dict[str, Any] = {"memory": adapter.memory, "parts": adapter.parts, "quantized": adapter.quantization}
    used |= {"packed": packed, "replaced": replaced}
    return {name for name, value in used.items() if value}


def _method_and_targets(owner: Adapter | Part) -> dict[str, Any]:
    return {
        "method": {"name": owner.method, "version": owner.version, "config": dict(owner.config)},
        "targets": {path: _target(target) for path, target in owner.targets.items()},
    }


def _part(part: Part) -> dict[str, Any]:
    digests = {"digest": part.digest, "content": part.content}
    return {**_method_and_targets(part), **{name: value for name, value in digests.items() if value}}


def _target(target: Target) -> dict[str, Any]:
    return {"kind": target.kind, "shape": list(target.shape), "config": dict(target.config)}


def _base(base: Base) -> dict[str, Any]:
    found = {f.name: getattr(base, f.name) for f in fields(base)}
    return {name: value for name, value in {**found, "ties": [list(tie) for tie in base.ties]}.items() if value}


# ---------------------------------------------------------------- reading


def load(header: Header) -> dict[str, Any]:
    """The manifest of a header: of a version and with features that this reader knows, and canonical."""
    text = header.metadata.get(KEY)
    if text is None:
        raise e.ManifestMissing(
            "this safetensors file has no adaptr manifest", hint="`adaptr convert` reads other formats"
        )
    split = _in_two(text)
    found = canonical.loads(text) if split is None else split
    version = _positive(_get(found, "format", ""), "format")
    if version > FORMAT:
        raise e.FormatTooNew(f"the file has format {version}, this adaptr reads up to {FORMAT}", hint="upgrade adaptr")
    unknown = sorted(set(_texts(found.get("requires", []), "requires")) - FEATURES)
    if unknown:
        raise e.FeatureUnknown(
            f"the file requires `{shown(unknown[0])}`, unknown to this adaptr", hint="upgrade adaptr"
        )
    if split is None and not canonical.is_canonical(text, found):
        raise e.ManifestNotCanonical(
            "the manifest is not canonical JSON (RFC 8785), so its digest means nothing", hint=phrases.AGAIN
        )
    return found


class Table(dict[str, Any]):
    """The targets of a manifest as they stand in its JSON, checked, and not to be changed: others get the same."""

    def targets(self) -> dict[str, Target]:
        """Targets of one's own, down to their configurations."""
        return {p: Target(p, t["kind"], tuple(t["shape"]), dict(t["config"])) for p, t in self.items()}


def _in_two(text: str) -> dict[str, Any] | None:
    """A manifest that is canonical, its targets a `Table`; None where only the whole says whether, and what, is wrong.

    Adapters of one structure have the same targets, so these are read once. Where is cut is a guess, but canonical JSON
    stays so when a value gives its place to another: here to `null`, which must come out where the targets belong.
    """
    start = text.rfind(TABLE + "{")
    stop = text.find(',"training":{', start)
    stop = len(text) - 1 if stop < 0 else stop
    if start < 0 or len(text) > again.KEPT:
        return None
    rest = f"{text[:start]}{TABLE}null{text[stop:]}"
    try:
        table = _read_before(f"{{{text[start:stop]}}}")
        if table is None or rest.count(f"{TABLE}null") != 1:
            return None
        found = canonical.loads(rest)
    except e.FormatError:
        return None
    whole = found.get("targets", 0) is None and canonical.is_canonical(rest, found)
    return {**found, "targets": table} if whole else None


@again.again
def _read_before(text: str) -> Table | None:
    """The table of a manifest that has nothing else, or None; a list in a configuration could be changed."""
    found = canonical.loads(text)
    if found.keys() != {"targets"} or not canonical.is_canonical(text, found):
        return None
    configs = [target.config for target in _read_targets(found, "").values()]
    plain = not any(isinstance(value, (list, dict)) for config in configs for value in config.values())
    return Table(found["targets"]) if plain else None


def adapter(found: Mapping[str, Any], tensors: Mapping[str, Any], source: str = "") -> Adapter:
    """An adapter from a loaded manifest. Raises `FieldMissing` or `FieldInvalid` with the field's path."""
    method, version, config = _read_method(found, "")
    return Adapter(
        method=method,
        version=version,
        config=config,
        targets=_read_targets(found, ""),
        tensors=tensors,
        parts={name: _read_part(name, part) for name, part in _optional(found, "parts").items()},
        **about(found),
        quantization=_optional(found, "quantization"),
        foreign=_optional(found, "foreign"),
        requires=_texts(found.get("requires", []), "requires"),
        extra={key: value for key, value in found.items() if key not in OWN},
        source=source,
    )


def about(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an adapter that tell people what it is and where it comes from. Raises `FieldInvalid`."""
    return {
        "base": _read_base(_optional(found, "base")),
        **{name: _text(found.get(name, ""), name) for name in TEXTS},
        "tags": _texts(found.get("tags", []), "tags"),
        **{name: _optional(found, name) for name in ("lineage", "training")},
    }


def same(found: Mapping[str, Any], adapter: Adapter) -> None:
    """Raises `ManifestNotCanonical` where writing the adapter would give another manifest than the one it came from."""
    again = document(adapter)
    for key in sorted({*found, *again}):
        if found.get(key) != again.get(key) or (key in found) != (key in again):
            want = f"`{shown(again[key])}`" if key in again else "left out, being empty"
            raise e.ManifestNotCanonical(f"`{shown(key)}`", got=f"`{shown(found.get(key))}`", want=f"{want}")


def _read_part(name: str, value: object) -> Part:
    where = f"parts.{shown(name)}"
    if not PART.fullmatch(name):
        raise e.FieldInvalid(f"`{where}` can't be the name of a part", want="up to 64 of a-z, 0-9, `_` and `-`")
    part = _closed(value, where, {"method", "targets", "digest", "content"})
    method, version, config = _read_method(part, f"{where}.")
    digest, content = (_text(part.get(key, ""), f"{where}.{key}") for key in ("digest", "content"))
    return Part(method, version, config, _read_targets(part, f"{where}."), digest, content)


def _read_method(owner: Mapping[str, Any], prefix: str) -> tuple[str, int, dict[str, Any]]:
    where = f"{prefix}method"
    found = _closed(_get(owner, "method", prefix), where, {"name", "version", "config"})
    name = _get(found, "name", f"{where}.")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise e.FieldInvalid(f"`{where}.name`", got=f"`{shown(name)}`", want="up to 64 of a-z, 0-9, `.`, `_` and `-`")
    version = _positive(_get(found, "version", f"{where}."), f"{where}.version")
    return name, version, _object(_get(found, "config", f"{where}."), f"{where}.config")


def _read_targets(owner: Mapping[str, Any], prefix: str) -> dict[str, Target]:
    where = f"{prefix}targets"
    found = _object(_get(owner, "targets", prefix), where)
    if isinstance(found, Table):
        return found.targets()
    return {path: _read_target(path, value, where) for path, value in found.items()}


def _read_target(path: str, value: object, prefix: str) -> Target:
    where = f"{prefix}.{shown(path)}"
    found = _closed(value, where, {"kind", "shape", "config"})
    kind, shape = _get(found, "kind", f"{where}."), _get(found, "shape", f"{where}.")
    if not isinstance(kind, str) or kind not in kinds.ALL:
        raise e.FieldInvalid(f"`{where}.kind` is `{shown(kind)}`", hint=f"known: {', '.join(sorted(kinds.ALL))}")
    axes = kinds.TABLE_OF[kind].axes
    if not isinstance(shape, list) or len(shape) != axes or not all(_is_size(n) for n in shape):
        raise e.FieldInvalid(f"`{where}.shape`", got=shown(shape), want=f"{axes} sizes (0 is not known)")
    if (kind == kinds.MODEL) != (path == ""):
        raise e.FieldInvalid(
            f"`{where}`", got=f"of kind `{kind}`", want="kind `model`, as the empty path is the model itself"
        )
    return Target(path, kind, tuple(shape), _object(_get(found, "config", f"{where}."), f"{where}.config"))


def _read_base(found: Mapping[str, Any]) -> Base:
    names = [f.name for f in fields(Base)]
    _closed(found, "base", names)
    texts = {name: _text(found.get(name, ""), f"base.{name}") for name in names if name != "ties"}
    ties = found.get("ties", [])
    if not isinstance(ties, list):
        raise e.FieldInvalid("`base.ties`", got=shown(ties), want="lists of parameter names")
    return Base(**texts, ties=tuple(_texts(tie, "base.ties") for tie in ties))


# ---------------------------------------------------------------- fields


def _get(found: Mapping[str, Any], key: str, prefix: str) -> Any:
    if key not in found:
        raise e.FieldMissing(f"the manifest has no `{prefix}{key}`", hint=phrases.AGAIN)
    return found[key]


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise e.FieldInvalid(f"`{where}`", got=f"`{shown(value)}`", want="an object")
    return value


def _closed(value: object, where: str, known: Collection[str]) -> dict[str, Any]:
    """An object that may have no other fields than these."""
    found = _object(value, where)
    for key in found:
        if key not in known:
            may = ", ".join(sorted(known))
            raise e.FieldInvalid(f"`{where}` has the unknown field `{shown(key)}`", want=f"one of {may}")
    return found


def _optional(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    return _object(found.get(key, {}), key)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise e.FieldInvalid(f"`{where}` is {shown(value)} ({type(value).__name__})", want="text")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise e.FieldInvalid(f"`{where}`", got=f"`{shown(value)}`", want="a list of texts")
    return tuple(value)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT


def _positive(value: object, where: str) -> int:
    if not isinstance(value, int) or not _is_size(value) or value == 0:
        raise e.FieldInvalid(f"`{where}` is {shown(value)} ({type(value).__name__})", want="a positive integer")
    return value
