"""What adaptr computes with pyreft's interventions, and what pyreft does with those that adaptr wrote, against pyreft's
own outputs. check.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cases
import torch

import models


def computed(folder: Path, case: dict[str, Any]) -> torch.Tensor:
    """pyreft's own `load` makes the class in bf16, and NoReFT's not at all: here it is made as it was trained."""
    if "kind" not in case:
        return torch.tensor(case["found"])
    said = json.loads((folder / case["adapter"] / "config.json").read_text())
    layers = [place[0] for place in said["representations"]]
    model = models.intervened(models.base(folder / "base"), case["kind"], case["rank"], layers, **case["given"])
    for key, intervention in model.interventions.items():
        stored = torch.load(folder / case["adapter"] / f"intkey_{key}.bin", weights_only=True)
        intervention.load_state_dict(stored, strict=False)
    return models.logits(model, case["positions"])


def main(folder: Path) -> None:
    cases.held(folder, lambda case: computed(folder, case), torch.tensor)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
