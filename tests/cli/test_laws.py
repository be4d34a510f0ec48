"""The laws of commands, over two that are built in: one that looks, one that writes."""

from __future__ import annotations

from pathlib import Path

import adaptr
from adaptr.testing import CommandLaws, tiny_llama


def sample(folder: Path) -> str:
    if not (folder / "a.safetensors").exists():
        adaptr.save(adaptr.create(tiny_llama(), "lora"), folder / "a.safetensors")
    return str(folder / "a.safetensors")


def broken(folder: Path) -> str:
    (folder / "b.safetensors").write_bytes(b"no adapter")
    return str(folder / "b.safetensors")


class TestInspect(CommandLaws):
    command = "inspect"

    def works(self, folder: Path) -> list[str]:
        return [sample(folder)]

    def fails(self, folder: Path) -> list[str]:
        return [broken(folder)]


class TestConvert(CommandLaws):
    command = "convert"

    def works(self, folder: Path) -> list[str]:
        return [sample(folder), "--to", "peft", "-o", str(folder / "peft")]

    def fails(self, folder: Path) -> list[str]:
        return [broken(folder), "--to", "peft", "-o", str(folder / "peft")]
