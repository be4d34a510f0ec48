"""What adaptr computes with what OpenDelta saved. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import small_llama as small
import torch
import transformers

import adaptr


def outputs(folder: Path) -> Iterator[dict[str, Any]]:
    ids = torch.tensor(small.IDS)
    for case in cases.read(folder, "theirs.json"):
        kind = getattr(transformers, case["model"])
        model = kind.from_pretrained(folder / case["base"], dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            if not case["adapter"]:
                yield {**case, "found": model(ids).logits[0].tolist()}
                continue
            with adaptr.attach(model, adaptr.load(folder / case["adapter"], model)):
                yield {**case, "found": model(ids).logits[0, -ids.shape[1] :].tolist()}


def main(folder: Path) -> None:
    cases.write(folder, outputs(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
