"""What LyCORIS computes in its forward, never by its own merge, which scales LoHa and LoKr twice. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cases
import torch
from loading import applied
from nets import drawn, outputs
from safetensors.torch import load_file


def main(folder: Path) -> None:
    def forward(case: dict[str, Any]) -> torch.Tensor:
        net, merged = drawn(), case.get("merged")
        net.load_state_dict(load_file(folder / (merged or case["base"])))
        if case["adapter"] and not merged:
            return outputs(*applied(net, folder / case["adapter"]))
        return outputs(net)

    cases.held(folder, forward, lambda values: torch.tensor(values, dtype=torch.float64))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
