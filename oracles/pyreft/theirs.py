"""Interventions as pyreft saves them, and what its models compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import small_llama as small

import models

#: Case to class, rank, layers, positions, and what the class takes besides.
CASES: dict[str, tuple[str, int, list[int], str, dict[str, Any]]] = {
    "LoReFT": ("Loreft", 3, [0, 1], "f2+l3", {}),
    "LoReFT with weights for each end": ("Loreft", 4, [0, 1, 0, 1], "f2+l2", {}),
    "LoReFT on the last": ("Loreft", 2, [1], "l1", {}),
    "NoReFT": ("Noreft", 3, [0, 1], "f2+l3", {"add_bias": False}),
    "NoReFT with two biases": ("Noreft", 3, [0, 1], "f3", {"add_bias": True}),
    "DiReFT": ("Direft", 3, [0, 1, 0, 1], "f2+l2", {}),
    "NodiReFT": ("Nodireft", 3, [1], "f2+l3", {"add_bias": True}),
    "ConsReFT": ("Consreft", 3, [0, 1], "f2+l3", {}),
    "LobiReFT": ("Lobireft", 3, [0, 1], "f2+l3", {}),
}


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    small.write(folder / "base")
    bare = models.base(folder / "base")
    yield {"name": "the base", "adapter": "", "outputs": models.logits(bare).tolist()}
    for number, (name, (kind, rank, layers, positions, given)) in enumerate(CASES.items()):
        model = models.intervened(models.base(folder / "base"), kind, rank, layers, **given)
        models.shaken(model, number)
        model.save(str(folder / f"reft{number}"))
        outputs = models.logits(model, positions).tolist()
        yield {"name": name, "adapter": f"reft{number}", "positions": positions, "outputs": outputs}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", base="base", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
