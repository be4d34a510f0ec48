"""What LitGPT computes with adaptr's merged weights, against its own with the factors; with LLaMA-Adapters, of its own
files and of those that adaptr writes, against what adaptr computes. check.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cases
import torch

import models


def main(folder: Path) -> None:
    def logits(case: dict[str, Any]) -> torch.Tensor:
        weights = folder / case["base"] / "model.safetensors"
        if case.get("version") and case["adapter"]:
            file = next((folder / case["adapter"]).glob("lit_model.pth.*"))
            return models.logits(models.adapted(weights, case["version"], file, **case["said"]))
        if case.get("version"):
            return models.logits(models.adapted(weights, 1, adapter_start_layer=models.CONFIG["n_layer"]))
        merged = folder / case["adapter"] / "model.safetensors"
        return models.logits(models.of(merged if case["adapter"] else weights))

    cases.held(folder, logits, torch.tensor)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
