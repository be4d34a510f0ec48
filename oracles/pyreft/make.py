"""What adaptr computes with what pyreft saved, and the same written as pyreft has it. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import small_llama as small
import torch
from transformers import AutoModelForCausalLM

import adaptr

#: adaptr's methods to the classes that they are written as, and what those take besides.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "loreft": ("Loreft", {}),
    "noreft": ("Noreft", {"add_bias": False}),
    "direft": ("Nodireft", {"add_bias": False}),
}


def outputs(folder: Path) -> Iterator[dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32).eval()
    ids = torch.tensor(small.IDS)
    for case in cases.read(folder, "theirs.json"):
        with torch.no_grad():
            if not case["adapter"]:
                yield {**case, "found": model(ids).logits[0].tolist()}
                continue
            found = adaptr.load(adaptr.source(folder / case["adapter"], positions=case["positions"]), model)
            with adaptr.attach(model, found):
                yield {**case, "found": model(ids).logits[0].tolist()}
            written = f"{case['adapter']}-written"
            adaptr.convert(found, folder / written, to="pyreft")
            kind, given = WRITTEN[found.method]
            said = {"kind": kind, "given": given, "rank": found.config["r"], "adapter": written}
            yield {**case, **said, "name": f"{case['name']}, written"}


def main(folder: Path) -> None:
    cases.write(folder, outputs(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
