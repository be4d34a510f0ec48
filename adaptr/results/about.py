"""What adapters say of themselves beside their tensors, and what of it holds for an adapter that is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adaptr.adapter import Adapter

#: Fields of PEFT's configuration that say what the model is used as: without them its `Auto` classes refuse a folder.
USE = ("task_type", "auto_mapping")
#: What one adapter says of itself alone.
OWN = ("release", "summary", "training")
#: What people would take for more than it is.
_SAID = {"training": "how it was trained (the result names its parents by digest, and they say it)"}


def kept(adapter: Adapter) -> dict[str, Any]:
    """The fields of an adapter that hold for the same adapter at another rank, or as another method."""
    peft = _peft(adapter)
    told = {key: peft[key] for key in ("metadata", "card") if peft.get(key)}
    fields = {name: getattr(adapter, name) for name in (*OWN, "license", "tags")}
    return {**fields, "foreign": _foreign(_use(adapter), told)}


def joined(adapters: Sequence[Adapter]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that hold for all, as all of them say so; and for each adapter what is lost."""
    first = adapters[0]
    use = {name: value for name, value in _use(first).items() if all(_use(a).get(name) == value for a in adapters)}
    metadata = {k: v for k, v in _metadata(first).items() if all(_metadata(a).get(k) == v for a in adapters)}
    fields = {
        "license": first.license if all(a.license == first.license for a in adapters) else "",
        "tags": tuple(tag for tag in first.tags if all(tag in a.tags for a in adapters)),
        "foreign": _foreign(use, {"metadata": metadata} if metadata else {}),
    }
    lost = ((adapter, list(_lost(adapter, fields, use, metadata))) for adapter in adapters)
    return fields, tuple(f"`{adapter.label}`: {', '.join(names)}" for adapter, names in lost if names)


def _lost(
    adapter: Adapter, fields: Mapping[str, Any], use: Mapping[str, Any], metadata: Mapping[str, str]
) -> Iterator[str]:
    yield from (_SAID.get(name, name) for name in OWN if getattr(adapter, name))
    if adapter.license and not fields["license"]:
        yield f"license {adapter.license}"
    yield from (f"tag {tag}" for tag in adapter.tags if tag not in fields["tags"])
    yield from (f"{name} {value}" for name, value in _use(adapter).items() if name not in use)
    yield from (f"metadata `{key}`" for key in _metadata(adapter) if key not in metadata)
    if _peft(adapter).get("card"):
        yield "model card"


def _peft(adapter: Adapter) -> Mapping[str, Any]:
    found = adapter.foreign.get("peft", {})
    return found if isinstance(found, Mapping) else {}


def _metadata(adapter: Adapter) -> Mapping[str, str]:
    found = _peft(adapter).get("metadata", {})
    return found if isinstance(found, Mapping) else {}


def _use(adapter: Adapter) -> dict[str, Any]:
    config = _peft(adapter).get("config", {})
    return {name: config[name] for name in USE if config.get(name)} if isinstance(config, Mapping) else {}


def _foreign(use: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    peft = {**({"config": dict(use)} if use else {}), **told}
    return {"peft": peft} if peft else {}
