"""Rows of embeddings in PEFT's files: TRAINABLE_TOKENS, and LORA's `trainable_token_indices` beside its factors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from adaptr import roles
from adaptr.adapter import Part, Target, kinds
from adaptr.adapter.keys import in_part
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import keys
from adaptr.foreign.peft.config import misread

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

METHOD = "trainable-tokens"
SLOT = "trainable_tokens_delta"
FIELD = "trainable_token_indices"
#: The module that PEFT puts around an embedding whose rows are trained beside a LoRA.
WRAPPER = ".token_adapter"
#: What the rows are called as a part of a stack with the LoRA.
PART = "tokens"

T = TypeVar("T")
Ties = tuple[tuple[str, ...], ...]


def read(
    source: Source, model: nn.Module | None, rows: Mapping[str, str], said: object
) -> tuple[dict[str, Target], dict[str, Piece], Ties]:
    """Targets, pieces and ties of the tensors `rows` (path to key), for the ids that the configuration `said`.

    A tied head has the same rows once more; it follows its table without. Raises `ConfigConflict`.
    """
    targets: dict[str, Target] = {}
    pieces: dict[str, Piece] = {}
    ties: dict[str, list[str]] = {}
    for path in sorted(rows, key=_is_head):
        key, ids = rows[path], _ids(said, path)
        twin = next((p for p in targets if targets[p].looked_up and _equal(source, rows[p], key)), None)
        if twin is not None:
            ties.setdefault(twin, [f"{twin}.weight"]).append(f"{path}.weight")
            continue
        shape = source.shapes[key]
        if len(shape) != 2 or shape[0] != len(ids):
            raise phrases.misshapen(f"`{key}`", shape, (len(ids), 0), ConfigConflict, hint=phrases.AGAIN)
        targets[path] = _target(model, path, ids, shape[1])
        pieces[f"{path}:v"] = Piece(key, shape)
    return targets, pieces, tuple(map(tuple, ties.values()))


def _is_head(path: str) -> bool:
    return roles.has(path, "head")


def _target(model: nn.Module | None, path: str, ids: list[int], width: int) -> Target:
    """A look-up table or a head, by the base, or by the name."""
    config = {"tokens": ids, "side": "in" if _is_head(path) else "out"}
    table, head = Target(path, kinds.TABLE, (width, 0), config), Target(path, kinds.LINEAR, (0, width), config)
    found = placing.agreed(model, head if _is_head(path) else table)
    return dataclasses.replace(found, config={**config, "side": "out" if found.looked_up else "in"})


def _equal(source: Source, one: str, two: str) -> bool:
    import torch

    return source.shapes[one] == source.shapes[two] and torch.equal(source.tensors[one], source.tensors[two])


def _ids(said: object, path: str) -> list[int]:
    """The ids of one target: one list for all, or a table of lists by the end of the path."""
    if isinstance(said, Mapping):
        said = next((ids for end, ids in said.items() if f".{path}".endswith(f".{end}")), None)
    if not isinstance(said, list) or not said or not all(type(t) is int and t >= 0 for t in said):
        raise misread("the ids of tokens", said, "a list of numbers")
    if len(set(said)) < len(said):
        raise misread("the ids of tokens", said, "different numbers")
    return said


def twins(adapter: Adapter) -> dict[str, str]:
    """The modules that are tied to a target, by their paths, with that target's."""
    found: dict[str, str] = {}
    for tie in adapter.base.ties:
        owners = [name.removesuffix(".weight") for name in tie]
        mine = next((path for path in owners if path in adapter.targets), "")
        found |= {path: mine for path in owners if mine and path not in adapter.targets}
    return found


def one_list(adapter: Adapter) -> list[int]:
    """The ids, where they are the same at all targets. Raises `Unsupported`."""
    lists = [target.config["tokens"] for target in adapter.targets.values()]
    if any(one != lists[0] for one in lists):
        raise Unsupported(
            "PEFT trains the same tokens at all targets, and this adapter has others at each", hint=phrases.OWN
        )
    found: list[int] = lists[0]
    return found


# ---------------------------------------------------------------- beside a LoRA


def beside(source: Source, model: nn.Module | None, lora: Draft) -> Draft:
    """A stack of `lora` and of the rows that its file has too; `lora` alone where there are none."""
    said = source.config.get(FIELD)
    found = {path.removesuffix(WRAPPER): s[SLOT] for path, s in keys.grouped(source.keys).items() if SLOT in s}
    if bool(said) != bool(found):
        have = "no rows are there" if said else f"`{next(iter(found.values()))}` is there"
        raise ConfigConflict(f"`{FIELD}`", got=str(said), want=f"what the file has: {have}", hint=phrases.AGAIN)
    if not found:
        return lora
    targets, pieces, ties = read(source, model, found, said)
    parts = {
        lora.method: Part(lora.method, 1, lora.config, lora.targets),
        PART: Part(METHOD, 1, next(iter(targets.values())).config, targets),
    }
    named = {**inside(lora.method, lora.pieces), **inside(PART, pieces)}
    config = {"order": list(parts), "weights": {}, "off": []}
    return Draft("stack", config, {}, named, lora.rewritten, parts, ties)


def inside(part: str, found: Mapping[str, T]) -> dict[str, T]:
    """What is by an adapter's own keys, by those that it has as a part of a stack."""
    return {in_part(key, part): value for key, value in found.items()}


def split(adapter: Adapter, loras: tuple[str, ...]) -> tuple[Adapter, Adapter, str]:
    """The LoRA and the rows that a stack is made of, and what the LoRA is called. Raises `Unsupported` for another."""
    methods = {name: part.method for name, part in adapter.parts.items()}
    rows = [name for name, method in methods.items() if method == METHOD]
    others = [name for name, method in methods.items() if method in loras]
    plain = not adapter.config.get("weights") and not adapter.config.get("off")
    if not (plain and len(methods) == 2 and len(rows) == len(others) == 1):
        raise Unsupported(
            "PEFT holds no stack of adapters, but for a LoRA with trained tokens beside it at full strength",
            hint="keep it in adaptr's own format, or compose it to one LoRA",
        )
    return adapter.part(others[0]), adapter.part(rows[0]).replace(base=adapter.base), others[0]


def indices(rows: Adapter) -> dict[str, list[int]] | list[int]:
    """`trainable_token_indices`: a list for the one table, or a list for each path."""
    lists = {path: target.config["tokens"] for path, target in rows.targets.items()}
    (first, *more), tables = lists.values(), [t for t in rows.targets.values() if t.looked_up]
    return first if not more and tables else lists


def tensors(rows: Adapter) -> dict[str, tuple[str, Same]]:
    """{adaptr's key of the part: (PEFT's key, tensor)}."""
    return {f"{path}:v": (keys.written(f"{path}{WRAPPER}", SLOT), same.at(rows, path)["v"]) for path in rows.targets}
