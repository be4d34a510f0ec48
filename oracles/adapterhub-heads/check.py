"""How far what adaptr's heads give is from what the library's gave, and the library's with what adaptr wrote of them.
check.py FOLDER
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import adapters
import cases
import torch
from adapterhub_bases import BASES
from safetensors.torch import load_file
from theirs import answers


def main(folder: Path) -> None:
    def outputs(case: dict[str, Any]) -> torch.Tensor:
        if case["found"] is not None:
            return torch.tensor(case["found"])
        kind = getattr(adapters, f"{BASES[case['body']][0]}AdapterModel")
        model = kind.from_pretrained(folder / case["body"], attn_implementation="eager")
        name = model.load_adapter(str(folder / case["adapter"]), use_safetensors=True, set_active=True)
        assert list(model.heads) == [name]
        with torch.no_grad():
            return torch.tensor(answers(model.eval()(**load_file(folder / f"{case['base']}-given.safetensors"))))

    cases.held(folder, outputs, torch.tensor)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
