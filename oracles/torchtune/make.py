"""What torchtune saved, merged by adaptr into the base. make.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

import adaptr
import merging


def main(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "base")

    def read(case: dict[str, Any]) -> adaptr.Adapter:
        return adaptr.load(adaptr.source(folder / case["adapter"], alpha=case["alpha"]), model)

    merging.merge_all(folder, read)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
