"""What MLX-LM computes with each adapter against PEFT's logits, on the CPU. check.py FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)


def main(folder: Path) -> None:
    asked = json.loads((folder / "cases.json").read_text("utf-8"))
    results, bare = {}, {}
    for case in asked["cases"]:
        model, _ = load_model(folder / case["base"])
        if case["adapter"]:
            model = load_adapters(model, str(folder / case["adapter"]))
        model.eval()
        found = np.array(model(mx.array(asked["ids"]))[0])
        error = float(np.abs(found - np.array(case["logits"])).max())
        results[case["name"]] = {"error": error, "limit": case["limit"]}
        if case["adapter"]:
            results[case["name"]]["effect"] = float(np.abs(found - bare[case["base"]]).max())
        else:
            bare[case["base"]] = found
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
