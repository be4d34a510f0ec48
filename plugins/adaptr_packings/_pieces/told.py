"""What small tensors beside a weight say of it: numbers, and texts as the codes of their letters."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from adaptr.errors import CheckpointError, phrases
from adaptr.format.header import DTYPES
from adaptr.packings import Files

_FORMS = {"U8": "B", "I32": "i", "I64": "q", "F32": "f"}
#: Values of one.
MOST = 64


@dataclass(frozen=True)
class Told:
    """Of the module at `path`. Raises `CheckpointError` for what is not there, or is of another kind."""

    files: Files
    path: str

    def numbers(self, leaf: str) -> tuple[int | float, ...]:
        name = f"{self.path}.{leaf}"
        entry = self.files.entries.get(name)
        if entry is None:
            raise CheckpointError(
                f"`{name}` is not there, and says how `{self.path}.weight` is read", hint=phrases.FETCH
            )
        count = entry.nbytes * 8 // max(DTYPES[entry.dtype], 1)
        if entry.dtype not in _FORMS or count > MOST:
            raise CheckpointError(f"`{name}`", got=f"{entry.dtype} {list(entry.shape)}", want="numbers")
        return struct.unpack(f"<{count}{_FORMS[entry.dtype]}", self.files.read(name))

    def number(self, leaf: str, default: int | None = None) -> int | float:
        if default is not None and f"{self.path}.{leaf}" not in self.files.entries:
            return default
        found = self.numbers(leaf)
        if len(found) != 1:
            raise CheckpointError(f"`{self.path}.{leaf}`", verb="has", got=f"{len(found)} values", want="one")
        return found[0]

    def text(self, leaf: str) -> str:
        return "".join(chr(int(one)) for one in self.numbers(leaf))
