"""The layout of a GGUF file that is another but for some tensors: the same bytes where they are of the same types."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

from adaptr.checkpoint.gguf import as_lying, ours
from adaptr.checkpoint.rewrite import Layout
from adaptr.checkpoint.stored import Shard
from adaptr.errors import Unsupported
from adaptr.format.gguf import read, retyped
from adaptr.format.header import MAX_INT

#: Bytes that a file has between two tensors, and behind the last, at most: zeros that align them.
MOST_BETWEEN = 1 << 20


def relaid(shard: Shard, config: Mapping[str, Any], types: Mapping[str, str]) -> Layout:
    """The output's layout, where some tensors are of other `types`, by the model's names.

    Raises `Unsupported` for a file with more than tensors and what aligns them, which would not come along.
    """
    behind = _behind(shard)
    if not types:
        return Layout(shard.raw, shard.header.entries, behind)
    header = read(io.BytesIO(shard.raw), MAX_INT)
    called = ours(header, config)
    theirs = {theirs: types[name] for theirs, name in called.items() if name in types}
    raw, _ = retyped(header, shard.raw, theirs)
    return of_header(raw, config, behind)


def of_header(raw: bytes, config: Mapping[str, Any], behind: int = 0) -> Layout:
    """The layout that the bytes of a header say. Raises a `HeaderError`, or `Unsupported`."""
    header = read(io.BytesIO(raw), MAX_INT)
    return Layout(raw, as_lying(header, ours(header, config)), behind)


def _behind(shard: Shard) -> int:
    """Bytes behind the last tensor."""
    entries = sorted(shard.header.entries.values(), key=lambda entry: (entry.start, entry.stop))
    size = os.stat(shard.path).st_size - shard.header.data
    ends, starts = [0, *(entry.stop for entry in entries)], [*(entry.start for entry in entries), size]
    with open(shard.path, "rb") as file:
        for end, start in zip(ends, starts, strict=True):
            between = os.pread(file.fileno(), min(start - end, MOST_BETWEEN), shard.header.data + end)
            if start - end > MOST_BETWEEN or any(between):
                raise Unsupported(
                    f"`{shard.path}` holds more than the tensors that its header says",
                    hint="convert it again, or write it anew with `llama-quantize --allow-requantize`",
                )
    return size - ends[-1]
