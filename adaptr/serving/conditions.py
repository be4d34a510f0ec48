"""What rules of profiles can ask: a name, and a function of what was said, a tensor and the facts.

All that stand in a rule's `when` must hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from adaptr.serving.facts import Facts
from adaptr.serving.seen import Stored

Condition: TypeAlias = Callable[[Any, Stored, Facts], bool]


def _set(fields: list[str], one: Stored, facts: Facts) -> bool:
    """One of these fields of the configuration is there and neither false nor empty."""
    return any(facts.config.get(name) for name in fields)


def _absent(fields: list[str], one: Stored, facts: Facts) -> bool:
    """One of these fields is not there."""
    return any(facts.config.get(name) is None for name in fields)


def _other(fields: Mapping[str, list[Any]], one: Stored, facts: Facts) -> bool:
    """One of these fields is there and none of its values."""
    return any(facts.config.get(name) is not None and facts.config[name] not in fields[name] for name in fields)


def _text(fields: Mapping[str, list[str]], one: Stored, facts: Facts) -> bool:
    """One of these fields is a text, as expressions are, and none of its values."""
    return any(isinstance(said := facts.config.get(name), str) and said not in fields[name] for name in fields)


def _beyond(fields: Mapping[str, list[str]], one: Stored, facts: Facts) -> bool:
    """One of these lists has more than its values."""
    return any(set(facts.config.get(name) or []) - set(fields[name]) for name in fields)


def _key(pattern: str, one: Stored, facts: Facts) -> bool:
    """The whole key matches."""
    return re.fullmatch(pattern, one.key) is not None


def _no_key(pattern: str, one: Stored, facts: Facts) -> bool:
    """The key does not match."""
    return not _key(pattern, one, facts)


def _module(pattern: str, one: Stored, facts: Facts) -> bool:
    """The module's name, by the server, matches as a whole."""
    return re.fullmatch(pattern, facts.name(one)) is not None


def _place(places: list[str], one: Stored, facts: Facts) -> bool:
    """Where the module is (`adaptr.serving.facts`)."""
    return facts.place(one) in places


def _rank_above(limit: str | int, one: Stored, facts: Facts) -> bool:
    """The tensor's rank is more than a number, or than the option of that name, where it is said."""
    most = facts.options.get(limit) if isinstance(limit, str) else limit
    return most is not None and one.rank > int(most)


def _file(names: list[str], one: Stored, facts: Facts) -> bool:
    """One of these files lies in the folder."""
    return not facts.seen.files.isdisjoint(names)


def _no_file(pattern: str, one: Stored, facts: Facts) -> bool:
    """No file in the folder matches, where its files are known."""
    return bool(facts.seen.files) and not any(re.fullmatch(pattern, name) for name in facts.seen.files)


def _option(said: Mapping[str, Any], one: Stored, facts: Facts) -> bool:
    """The server is told these."""
    return all(facts.options.get(name) == value for name, value in said.items())


def _outside(option: Mapping[str, Mapping[str, list[str]]], one: Stored, facts: Facts) -> bool:
    """An option that lists modules is said, and has neither this nor what it is a part of."""
    (name, packed), *_ = option.items()
    if not facts.options.get(name):
        return False
    told = facts.options[name]
    chosen = set(told.split(",") if isinstance(told, str) else told)
    if "all" in chosen:
        return False
    wholes = {whole for whole, parts in packed.items() if one.name in parts}
    return chosen.isdisjoint({one.name, *wholes})


def _architecture(names: list[str], one: Stored, facts: Facts) -> bool:
    """The base is of one of these classes."""
    return facts.base is not None and facts.base.architecture in names


def _lacks(said: Mapping[str, str], one: Stored, facts: Facts) -> bool:
    """The module is called so, and its block has none that is called so: `{q_proj: v_proj}`."""
    beside = said.get(one.name)
    return beside is not None and f"{one.parent}.{beside}" not in facts.paths


def _partial(wanted: bool, one: Stored, facts: Facts) -> bool:
    """A kind of module is in some layers and not in all."""
    return bool(facts.missing(one)) is wanted


def _mixed_ranks(padded: Mapping[str, int], one: Stored, facts: Facts) -> bool:
    """Its kind of module has several ranks, also when they are filled up to `least` and then to whole `step`s."""
    least, step = padded["least"], padded["step"]
    return len({least if rank <= least else -(-rank // step) * step for rank in facts.ranks(one)}) > 1


def _no_matrix(wanted: bool, one: Stored, facts: Facts) -> bool:
    """It is called a factor, and has not two axes with something in them."""
    return (one.slot.startswith(("lora_A", "lora_B")) and (len(one.shape) != 2 or 0 in one.shape)) is wanted


def _unlisted(field: str, one: Stored, facts: Facts) -> bool:
    """A list in the configuration does not name the module."""
    said = facts.config.get(field)
    return isinstance(said, list) and not any(str(name).rpartition(".")[2] == one.name for name in said)


def _scaled(wanted: bool, one: Stored, facts: Facts) -> bool:
    """The server multiplies by another number than PEFT."""
    if one.rank == 0:
        return not wanted
    return (not math.isclose(facts.ours(one), facts.theirs(one), rel_tol=1e-6)) is wanted


CONDITIONS: Mapping[str, Condition] = {
    "set": _set,
    "absent": _absent,
    "other": _other,
    "text": _text,
    "beyond": _beyond,
    "key": _key,
    "no_key": _no_key,
    "module": _module,
    "place": _place,
    "rank_above": _rank_above,
    "file": _file,
    "no_file": _no_file,
    "option": _option,
    "outside": _outside,
    "architecture": _architecture,
    "lacks": _lacks,
    "partial": _partial,
    "mixed_ranks": _mixed_ranks,
    "no_matrix": _no_matrix,
    "unlisted": _unlisted,
    "scaled": _scaled,
}
