"""What loralib saved, merged by adaptr into the base. make.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

import adaptr
import merging


def layers() -> nn.Module:
    """The layers of the base, which say what kind each is."""
    layer = {"query": nn.Linear(21, 28), "c_attn": nn.Linear(21, 63), "c_fc": Conv1D(14, 21)}
    table, head = nn.Embedding(30, 21), nn.Linear(28, 3)
    return nn.ModuleDict({"table": table, "layer": nn.ModuleList([nn.ModuleDict(layer)]), "classifier": head})


def main(folder: Path) -> None:
    def read(case: dict[str, Any]) -> adaptr.Adapter:
        source = adaptr.source(folder / case["adapter"], alpha=case["alpha"], enable_lora=case["parts"])
        return adaptr.load(source, layers())

    merging.merge_all(folder, read)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
