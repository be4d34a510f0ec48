"""What LitGPT saved, merged by adaptr into the base. make.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import adaptr
import merging


def main(folder: Path) -> None:
    merging.merge_all(folder, lambda case: adaptr.load(folder / case["adapter"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
