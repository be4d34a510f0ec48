"""Every reader of bytes that others wrote, with valid files to change.

A reader makes an example out of a `Random` in a folder of its own: whether its bytes are well formed, which is the
first check that a reader makes, and what reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from fuzz.readers import adapters, data, documents, ggufs, images, language, models, packed, registry, research
from fuzz.readers.examples import Example, Reader

__all__ = ["Example", "Reader", "examples", "readers"]


def readers(folder: Path) -> Mapping[str, Reader]:
    """All readers by name; `folder` is empty and theirs."""
    made = (
        *adapters.READERS,
        *models.READERS,
        *documents.READERS,
        *registry.READERS,
        *data.READERS,
        *images.READERS,
        *ggufs.READERS,
        *language.READERS,
        *packed.READERS,
        *research.READERS,
    )
    return {name: reader for one in made for name, reader in one(folder).items()}


def examples(reader: Reader, seed: str, count: int) -> Iterator[tuple[str, Example]]:
    """Examples with the names by which they are made again."""
    for number in range(count):
        name = f"{seed}/{number}"
        yield name, reader(Random(name))
