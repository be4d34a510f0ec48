"""What MLX-LM computes with each adapter against PEFT's logits, on the CPU. check.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cases
import mlx.core as mx
import numpy as np
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)


def main(folder: Path) -> None:
    def logits(case: dict[str, Any]) -> Any:
        model, _ = load_model(folder / case["base"])
        if case["adapter"]:
            model = load_adapters(model, str(folder / case["adapter"]))
        model.eval()
        return np.array(model(mx.array(case["ids"]))[0])

    cases.held(folder, logits, np.array)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
