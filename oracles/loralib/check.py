"""What loralib's layers compute with adaptr's merged weights, against its own with the factors. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cases
import torch
from nets import Net, outputs
from safetensors.torch import load_file


def main(folder: Path) -> None:
    def merged(case: dict[str, Any]) -> torch.Tensor:
        net = Net(0, 1, [False])
        net.load_state_dict(load_file(folder / (case["adapter"] or case["base"])))
        return outputs(net)

    cases.held(folder, merged, torch.tensor)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
