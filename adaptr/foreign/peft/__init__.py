"""PEFT folders: `adapter_config.json` with `adapter_model.safetensors` or `.bin`, read and written.

`table` says which of PEFT's types is which method. What adaptr does not derive from an adapter is kept in
`adapter.foreign["peft"]`, so that a file which goes there and back loses no field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.foreign.peft import source

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign import Written


class Peft:
    """The format `peft`."""

    name = "peft"

    def detect(self, path: Path) -> bool:
        return source.locate(path) is not None

    def read(self, path: Path, base: Any = None) -> Adapter:
        from adaptr.foreign.peft.reading import read

        return read(path, base)

    def write(self, adapter: Adapter, out: Path, lossy: bool = False, force: bool = False) -> Written:
        from adaptr.foreign.peft.writing import write

        return write(adapter, out, lossy, force)
