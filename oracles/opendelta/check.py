"""How far what adaptr computes with OpenDelta's deltas is from what OpenDelta's own models gave. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import cases
import torch


def main(folder: Path) -> None:
    cases.held(folder, lambda case: torch.tensor(case["found"]), torch.tensor)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
