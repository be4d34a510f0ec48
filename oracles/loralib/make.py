"""What loralib saved, merged by adaptr into the base. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
from torch import nn
from transformers.pytorch_utils import Conv1D

import adaptr


def layers() -> nn.Module:
    """The layers of the base, which say what kind each is."""
    layer = {"query": nn.Linear(21, 28), "c_attn": nn.Linear(21, 63), "c_fc": Conv1D(14, 21)}
    table, head = nn.Embedding(30, 21), nn.Linear(28, 3)
    return nn.ModuleDict({"table": table, "layer": nn.ModuleList([nn.ModuleDict(layer)]), "classifier": head})


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for case in cases.read(folder, "theirs.json"):
        if not case["adapter"]:
            yield case
            continue
        file = folder / case["adapter"]
        adapter = adaptr.load(adaptr.source(file, alpha=case["alpha"], enable_lora=case["parts"]), layers())
        merged = file.with_suffix(".merged.safetensors")
        adaptr.merge(folder / case["base"], adapter, merged, receipt=False)
        yield {**case, "adapter": merged.name}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
