"""How far what adaptr's modules give is from what the library's gave. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import cases
import torch


def main(folder: Path) -> None:
    cases.held(folder, lambda case: torch.tensor(case["found"]), torch.tensor)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
