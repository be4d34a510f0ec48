"""The keys of an adapter's tensors: `<target>:<param>`, `:<param>` for one that all targets share,
`<target>:<part>.<param>` for a part's, and `<parameter>:=` for a parameter that is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

REPLACED = "="
#: How the keys of whole parameters end, an adapter's own and those of its parts.
WHOLE = (f":{REPLACED}", f".{REPLACED}")


def by_path(keys: Iterable[str], parts: Collection[str]) -> dict[str, list[str]]:
    """Path to the keys there that belong to no part, whole parameters left out."""
    found: dict[str, list[str]] = {}
    for key in keys:
        path, _, name = key.rpartition(":")
        part, dot, _ = name.partition(".")
        if name != REPLACED and not (dot and part in parts):
            found.setdefault(path, []).append(key)
    return found


def replaced(keys: Iterable[str]) -> list[str]:
    """The paths of parameters that are replaced as a whole."""
    return [key[:-2] for key in keys if key.endswith(f":{REPLACED}")]


def part_keys(keys: Iterable[str], name: str) -> dict[str, str]:
    """The keys of a part's tensors, by those that they have on their own."""
    split = ((key, *key.rpartition(":")) for key in keys)
    return {
        path + colon + param[len(name) + 1 :]: key for key, path, colon, param in split if param.startswith(f"{name}.")
    }


def in_part(key: str, name: str) -> str:
    """The key that a tensor of the part `name` has, by the one that it has on its own."""
    path, colon, param = key.rpartition(":")
    return f"{path}{colon}{name}.{param}"
