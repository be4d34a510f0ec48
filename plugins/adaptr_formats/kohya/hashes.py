"""The hashes that sd-scripts puts into a header, of the file that it would write with its own metadata alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.foreign import saving

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.foreign.same import Same

MODEL, LEGACY, SPEC = "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"
#: What the old hash is of: these bytes of the file, nothing where it is shorter.
START, STOP = 0x100000, 0x110000


class _Hashed:
    """A file that is only hashed: its data behind the header, and the bytes from `START` to `STOP`."""

    def __init__(self) -> None:
        self.model, self.legacy, self.at = hashlib.sha256(), hashlib.sha256(), 0

    def write(self, raw: bytes | bytearray | memoryview, /) -> None:
        piece = memoryview(raw)
        if self.at:  # the header comes whole, first
            self.model.update(piece)
        self.legacy.update(piece[max(START - self.at, 0) : max(STOP - self.at, 0)])
        self.at += len(piece)


def renewed(tensors: Mapping[str, Tensor | Same], metadata: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with the hashes in it made anew, where it has any."""
    if not metadata.keys() & {MODEL, LEGACY, SPEC}:
        return dict(metadata)
    file = _Hashed()
    saving.write(file, tensors, {name: said for name, said in metadata.items() if name.startswith("ss_")})
    found = {MODEL: file.model.hexdigest(), LEGACY: file.legacy.hexdigest()[:8], SPEC: f"0x{file.model.hexdigest()}"}
    return {name: found.get(name, said) for name, said in metadata.items()}
