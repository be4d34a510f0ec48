"""What servers make of an adapter, tensor by tensor: a profile a server, data with dates and sources, and one judge.

A profile is a file `profiles/<server>.yaml`, which `docs/serving.md` describes; another file is another server.
"""

from __future__ import annotations

from pathlib import Path

#: Servers of llama.cpp's files, which load a GGUF LoRA and have no profile.
GGUF = ("llama-server", "ollama")
FOLDER = Path(__file__).parent / "profiles"


def names() -> list[str]:
    """The servers of which there is a profile."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))
