"""Readers of checkpoints whose weights lie packed: headers, configurations and bytes that are others."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_header, is_json
from packings import naive

FILES = ("config.json", "model.safetensors")


def _packed(folder: Path) -> dict[str, Reader]:
    """Whole weights are decoded where the checkpoint can be opened."""
    made = (naive.gptq((32, 64), 4, 32, "gptq", False), naive.gptq((32, 32), 3, 32, "gptq_v2", True),
            naive.awq((16, 32), 32), naive.hqq((8, 32), "4bit_u8", 16, 1),
            naive.hqq((8, 32), "3bit_32", 16, 0))  # fmt: skip
    bases = [one.saved(folder / f"packed-{i}") for i, one in enumerate(made)]
    valid = [{name: (base / name).read_bytes() for name in FILES} for base in bases]
    place = folder / "packed"
    place.mkdir()

    def example(random: Random) -> Example:
        found = dict(random.choice(valid))
        if random.random() < 0.5:
            found["config.json"] = mutations.text(random, json.loads(found["config.json"]))
        if random.random() < 0.6:
            found["model.safetensors"] = mutations.safetensors(random, found["model.safetensors"], "")
        for name, raw in found.items():
            (place / name).write_bytes(raw)

        def read() -> None:
            for stored in open_checkpoint(place).tensors.values():
                whole(stored)

        return is_json(found["config.json"]) and is_header(found["model.safetensors"]), read

    return {"packed": example}


READERS = (_packed,)
