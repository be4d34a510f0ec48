"""Flax's msgpack: maps in maps, whose leaves are arrays of a shape, a dtype and bytes. Read a value at a time, with
nothing but what is asked for in memory: what a map, a text or an array says of its length is looked for, not believed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adaptr.errors import ForeignError, TensorUnknown, phrases, shown
from adaptr.untrusted import MAX_DEPTH, opened

if TYPE_CHECKING:
    from torch import Tensor

#: Values in a file, bytes of a text and of an array, and axes of it, at most.
_MOST, _TEXT, _LIMIT, _AXES = 1 << 20, 1 << 16, 1 << 30, 8
#: The code of Flax's arrays among what msgpack leaves open.
_ARRAY = 1
_PROMPT = re.compile(r"(.+\.)?prompt\.prompt\.prompt", re.DOTALL)
_STATE = re.compile(r"(.+\.)?(state|param_states)\..*", re.DOTALL)
#: By first byte: what follows, and the bytes of its length, or of itself.
_KINDS: dict[int, tuple[str, int]] = {
    **{0xC4 + i: ("bytes", 1 << i) for i in range(3)}, **{0xC7 + i: ("open", 1 << i) for i in range(3)},
    **{0xCA + i: ("float", 4 << i) for i in range(2)}, **{0xCC + i: ("whole", 1 << i) for i in range(4)},
    **{0xD0 + i: ("signed", 1 << i) for i in range(4)}, **{0xD4 + i: ("fixed", 1 << i) for i in range(5)},
    **{0xD9 + i: ("text", 1 << i) for i in range(3)}, **{0xDC + i: ("list", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}  # fmt: skip
_WORDS = {0xC0: None, 0xC2: False, 0xC3: True}
_DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Span:
    """Bytes of a file that are not looked at. `code`: of what msgpack leaves open, -1 for plain bytes."""

    code: int
    start: int
    size: int


def is_map(first: bytes) -> bool:
    """Whether a file begins as a map does."""
    return 0x80 <= first[0] <= 0x8F or first[0] in (0xDE, 0xDF) if first else False


def holds_prompt(path: Path) -> bool:
    """Whether a prompt is in it; of what is damaged that is said where it is read."""
    try:
        with opened(path) as file:
            return any(_is_prompt(name) for name, _ in _leaves(_Reader(file).value()))
    except ForeignError:
        return True


def prompts(path: Path) -> dict[str, Tensor]:
    """The prompts in a file by their names. Raises a `ForeignError` for what is damaged, or no array of floats, and for
    two that have one name.
    """
    with opened(path) as file:
        reader = _Reader(file)
        spans = [(name, span) for name, span in _leaves(reader.value()) if _is_prompt(name)]
        if len(dict(spans)) < len(spans):
            raise ForeignError(f"`{path}` holds two prompts of one name", hint=phrases.AGAIN)
        return {name: reader.tensor(name, span) for name, span in spans}


def _is_prompt(name: str) -> bool:
    """What an optimizer knows of a prompt is none."""
    return _PROMPT.fullmatch(name) is not None and _STATE.fullmatch(name) is None


def _leaves(tree: object, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Span]]:
    if isinstance(tree, Span) and tree.code == _ARRAY:
        yield ".".join(before), tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(value, (*before, name))


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, _MOST

    def value(self, depth: int = 0) -> Any:
        """The next value. Raises `ForeignError`."""
        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            raise ForeignError("the msgpack is nested too deep, or of too many values", hint="get it again")
        first = self._take(1)[0]
        if first < 0x80 or first >= 0xE0:
            return first if first < 0x80 else first - 0x100
        if first < 0xC0:
            kind, count = next((kind, first - start) for start, kind in _SHORT if first >= start)
            return self._made(kind, count, depth)
        if first in _WORDS:
            return _WORDS[first]
        if first not in _KINDS:
            raise ForeignError("there is a byte that msgpack has no meaning for", hint=phrases.FETCH)
        kind, width = _KINDS[first]
        if kind == "fixed":
            return self._made("open", width, depth)
        raw = self._take(width)
        if kind in ("whole", "signed"):
            return int.from_bytes(raw, "big", signed=kind == "signed")
        return 0.0 if kind == "float" else self._made(kind, int.from_bytes(raw, "big"), depth)

    def _made(self, kind: str, count: int, depth: int) -> Any:
        if kind == "text":
            if count > _TEXT:
                raise ForeignError(f"the msgpack has a text of {count} bytes", hint=phrases.FETCH)
            return self._take(count).decode(errors="replace")
        if kind in ("bytes", "open"):
            code = self._take(1)[0] if kind == "open" else -1
            span = Span(code, self.file.tell(), count)
            self.file.seek(count, 1)
            return span
        if kind == "list":
            return [self.value(depth + 1) for _ in range(count)]
        return self._map(count, depth + 1)

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        """Of names to values. What else could be a key is as long as it is deep when it is written out."""
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self.value(depth)
            if not isinstance(name, str | int) or str(name) in found:
                raise ForeignError("the msgpack has a key twice, or one that is no text", hint=phrases.AGAIN)
            found[str(name)] = self.value(depth)
        return found

    def tensor(self, name: str, span: Span) -> Tensor:
        """An array, which is a list of its own within the bytes."""
        import torch

        self.file.seek(span.start)
        shape, dtype, data = _fields(name, self.value())
        kind: torch.dtype = getattr(torch, dtype)
        small = len(shape) <= _AXES and 0 < data.size <= _LIMIT
        if not small or math.prod(shape) * kind.itemsize != data.size:
            raise ForeignError(
                f"`{shown(name)}` has {data.size} bytes, which are no {dtype} of {shape[:_AXES]}", hint=phrases.FETCH
            )
        self.file.seek(data.start)
        return torch.frombuffer(bytearray(self._take(data.size)), dtype=kind).reshape(shape)

    def _take(self, count: int) -> bytes:
        found = self.file.read(count)
        if len(found) < count:
            raise ForeignError("the msgpack is cut off", hint=phrases.FETCH)
        return found


def _fields(name: str, found: object) -> tuple[list[int], str, Span]:
    """Shape, dtype and bytes of an array. Raises `TensorUnknown`."""
    shape, dtype, data = found if isinstance(found, list) and len(found) == 3 else (None, "", None)
    sizes = shape if isinstance(shape, list) else [-1]
    if not all(type(size) is int and size >= 0 for size in sizes) or not isinstance(data, Span) or dtype not in _DTYPES:
        said = shown(str(dtype))
        raise TensorUnknown(f"`{shown(name)}` is an array of {said}", want="floats", hint=phrases.AGAIN)
    return sizes, str(dtype), data


#: Kinds whose length is in the first byte, the last first.
_SHORT = ((0xA0, "text"), (0x90, "list"), (0x80, "map"))


# ---------------------------------------------------------------- writing


def written(P: Tensor) -> bytes:
    """A prompt as `msgpack_restore` of Flax gives it: at `target`, where T5X has it."""
    from adaptr.format.io import raw_bytes

    inner = b"\x93" + _list(P.shape) + _text(str(P.dtype).removeprefix("torch.")) + _long(0xC6, bytes(raw_bytes(P)))
    found = _long(0xC9, inner, bytes([_ARRAY]))
    for name in ("prompt", "prompt", "prompt", "encoder", "target"):
        found = b"\x81" + _text(name) + found
    return found


def _text(value: str) -> bytes:
    return bytes([0xA0 + len(value)]) + value.encode()


def _list(values: tuple[int, ...]) -> bytes:
    return bytes([0x90 + len(values)]) + b"".join(b"\xce" + one.to_bytes(4, "big") for one in values)


def _long(first: int, raw: bytes, code: bytes = b"") -> bytes:
    return bytes([first]) + len(raw).to_bytes(4, "big") + code + raw
