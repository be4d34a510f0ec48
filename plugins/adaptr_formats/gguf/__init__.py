"""llama.cpp's LoRA in a GGUF file: its own names of layers and order of rows, one alpha for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen


class Gguf(Format):
    name = "gguf"
    tool = "llama.cpp"
    called = "a GGUF LoRA (llama.cpp)"
    folder = False
    suffix = ".gguf"
    marks = Marks(first=(b"GGUF",))

    def locate(self, seen: Seen) -> Path | None:
        """A file that says that it is an adapter; of a folder without another configuration, the one such file."""
        from adaptr_formats.gguf.reading import locate

        return locate(seen)

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.gguf.reading import read

        return read(self.weights(path), base)

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        """Architecture and heads, which names and the order of rows go by."""
        from adaptr_formats.gguf.writing import based

        return based(adapter, base)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr_formats.gguf.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr_formats.gguf.writing import save

        return save(adapter, out, force)
