"""What AdapterHub's library computes with each adapter against adaptr's outputs. check.py FOLDER"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import adapters
import cases
import torch
from safetensors.torch import load_file
from transformers import AutoModel


def main(folder: Path) -> None:
    def outputs(case: dict[str, Any]) -> torch.Tensor:
        # with other attentions the library masks prefixes of decoders out
        model = AutoModel.from_pretrained(folder / case["base"], dtype=torch.float32, attn_implementation="eager")
        if case["adapter"]:
            adapters.init(model)
            place = folder / case["adapter"]
            load = model.load_adapter_setup if (place / "adapter_setup.json").exists() else model.load_adapter
            load(str(place), use_safetensors=True, set_active=True)
        for name, value in model.named_parameters():
            if name.endswith("in_proj.bias"):  # which the library draws at random, of DeBERTa
                torch.nn.init.zeros_(value)
        with torch.no_grad():
            found: torch.Tensor = model.eval()(**load_file(folder / f"{case['base']}-given.safetensors"))[0][0]
        first, last = case.get("rows", (0, 0))  # of a prompt, which it puts out too
        return torch.cat([found[:first], found[last:]])

    cases.held(folder, outputs, torch.tensor)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
