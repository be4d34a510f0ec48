"""A Llama of random weights as transformers and as llama.cpp have it. make.py FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bases
import torch

IDS = [5, 97, 80, 33, 120, 44, 101, 66, 72, 90, 113]


def main(folder: Path) -> None:
    model = bases.made("llama")
    bases.written("llama", folder / "llama.gguf")
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, -1].double()
    cases = [{"name": "llama, the base", "base": "llama.gguf", "adapter": "", "limit": 1e-5,
              "logprobs": torch.log_softmax(logits, 0).tolist()}]  # fmt: skip
    (folder / "cases.json").write_text(json.dumps({"ids": IDS, "cases": cases}), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
