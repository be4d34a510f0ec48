"""The laws, on a command of one's own."""

from pathlib import Path

import adaptr
import adaptr.testing


class TestNorms(adaptr.testing.CommandLaws):
    command = "norms"

    def works(self, folder: Path) -> list[str]:
        adaptr.save(adaptr.create(adaptr.testing.tiny_llama(), "lora"), folder / "a.safetensors", force=True)
        return [str(folder / "a.safetensors")]

    def fails(self, folder: Path) -> list[str]:
        (folder / "b.safetensors").write_bytes(b"no adapter")
        return [str(folder / "b.safetensors")]
