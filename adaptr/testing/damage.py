"""Copies of files that anybody may have written: cut off, with other bytes, with other JSON in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

#: What stands where something else was.
ODD: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e308, "", "../x", "(a+)+$", [], {}, [[1]], {"a": {"b": None}})


def damaged(random: Random, path: Path, folder: Path, count: int) -> Iterator[Path]:
    """`count` copies of a file or folder, one at a time, each with one thing wrong."""
    for _ in range(count):
        if folder.exists():
            shutil.rmtree(folder)
        copy = folder / path.name
        folder.mkdir()
        shutil.copytree(path, copy) if path.is_dir() else shutil.copyfile(path, copy)
        file = random.choice([file for file in sorted(copy.rglob("*")) if file.is_file()] or [copy])
        file.write_bytes(_broken(random, file.read_bytes()))
        yield copy


def _broken(random: Random, raw: bytes) -> bytes:
    kind = random.randrange(4)
    if kind == 0:
        return raw[: random.randrange(len(raw) + 1)]
    if kind == 1:
        place = random.randrange(max(len(raw), 1))
        return raw[:place] + bytes([random.randrange(256)]) + raw[place + 1 :]
    if raw[:1] in (b"{", b"["):
        return json.dumps(_other(random, json.loads(raw))).encode()
    return _header(random, raw)


def _header(random: Random, raw: bytes) -> bytes:
    """A safetensors file with another header."""
    length = int.from_bytes(raw[:8], "little")
    try:
        document = json.loads(raw[8 : 8 + length])
    except ValueError:
        return raw[::-1]
    text = json.dumps(_other(random, document)).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def _other(random: Random, document: object) -> object:
    """The document with one of its values, at any depth, replaced or taken out."""
    if isinstance(document, dict) and document:
        key = random.choice(sorted(document))
        if random.random() < 0.2:
            return {k: v for k, v in document.items() if k != key}
        deeper = isinstance(document[key], dict | list) and random.random() < 0.7
        return {**document, key: _other(random, document[key]) if deeper else random.choice(ODD)}
    if isinstance(document, list) and document:
        place = random.randrange(len(document))
        return [*document[:place], _other(random, document[place]), *document[place + 1 :]]
    return random.choice(ODD)
