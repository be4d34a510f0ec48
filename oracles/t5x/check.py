"""What adaptr read of the tools' own files, and what Flax restores of those that adaptr wrote. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cases
import numpy as np
from flax import serialization


def main(folder: Path) -> None:
    def given(case: dict[str, Any]) -> Any:
        if "written" not in case:
            return np.array(case["found"])
        found = serialization.msgpack_restore((folder / case["written"]).read_bytes())["target"]
        return np.asarray(found["encoder"]["prompt"]["prompt"]["prompt"], "float64")

    cases.held(folder, given, np.array)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
