"""Outputs, and one that replaces them."""

from __future__ import annotations

from pathlib import Path

from adaptr import files

VECTOR = Path(__file__).resolve().parents[2] / "registry_spec/vectors/valid/minimal_lora.safetensors"


def output(path: Path) -> Path:
    with files.replacing_folder(path, force=True) as folder:
        (folder / "config.json").write_text("{}")
        (folder / "deep/er").mkdir(parents=True)
        (folder / "deep/er/weights").write_bytes(bytes(range(256)) * 4096)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def replaced(path: Path) -> None:
    with files.replacing_folder(path, force=True) as folder:
        (folder / "new").write_text("new")


def add(out: Path) -> str:
    (out / "notes.txt").write_text("mine")
    return "notes.txt"
