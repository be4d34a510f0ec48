"""docs/files.md: the files that people write or keep beside adapters, with the fields of their JSON Schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pages.markdown import table

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "registry_spec" / "schemas"
#: Schema to the title of its table, and what stands before it.
KNOWN = ("composition", "recipe", "policy", "lock", "receipt", "artifact", "manifest", "index")


def tables() -> dict[str, str]:
    """The fields of each schema, by its name."""
    found = {}
    for name in KNOWN:
        said = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
        rows = list(_rows(said, said, ""))
        link = f"[{name}.schema.json](../registry_spec/schemas/{name}.schema.json)\n\n"
        found[name] = link + table(("field", "is", "needed", "what"), rows)
    return found


def _rows(node: Mapping[str, Any], whole: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str, str]]:
    """A row a field, two levels deep."""
    items = _at(node.get("items", {}), whole)
    node = items if node.get("type") == "array" and items.get("properties") else node
    for name, given in node.get("properties", {}).items():
        one = _at(given, whole)
        needed = "yes" if name in node.get("required", ()) else ""
        yield f"`{above}{name}`", _is(one, whole), needed, one.get("description", "")
        if not above:
            yield from _rows(one, whole, f"{name}.")


def _at(node: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference into the schema leads to."""
    if "$ref" not in node or not str(node["$ref"]).startswith("#/"):
        return node
    found: Any = whole
    for part in str(node["$ref"])[2:].split("/"):
        found = found[part]
    return {**found, **{k: v for k, v in node.items() if k != "$ref"}}


def _is(one: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    if "const" in one:
        return f"`{json.dumps(one['const'])}`"
    if "enum" in one:
        return ", ".join(f"`{json.dumps(value)}`" for value in one["enum"])
    kinds = one.get("type", "")
    said = " or ".join(kinds if isinstance(kinds, list) else [kinds] if kinds else [])
    if said == "array" and "items" in one:
        said = f"array of {_is(_at(one['items'], whole), whole) or 'values'}"
    if not said and ("anyOf" in one or "oneOf" in one):
        choices = [_is(_at(each, whole), whole) for each in one.get("anyOf", one.get("oneOf", ()))]
        said = " or ".join(dict.fromkeys(filter(None, choices)))
    return said + (f", `{one['pattern']}`" if "pattern" in one else "")
