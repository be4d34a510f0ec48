"""Adapters as adaptr writes them for LyCORIS, and theirs and its own merged by it. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
from nets import drawn, outputs
from safetensors.torch import load_file

import adaptr
from adaptr.testing import shaken

LAYERS = ["fc_1", "to_q", "conv", "point", "line", "to_out.0"]
CONVOLUTIONS = ["conv", "line"]
#: What LyCORIS computes in fp32 alone.
ROUNDED = 4e-6
OWN = {"*.to_q": {"r": 5, "alpha": 2.0}, "*.conv": {"alpha": 7.0}}
FOUR = {"*.point": {"n": 4, "m": 3}, "to_out.0": {"n": 4, "m": 3}}
#: Case to its method, the layers, and its configuration.
CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "lora": ("lora", LAYERS, {"r": 3, "alpha": 2.0}),
    "lora, scale by the root of the rank": ("lora", LAYERS, {"r": 3, "alpha": 2.0, "rslora": True}),
    "lora, ranks and scales of their own": ("lora", LAYERS, {"r": 3, "alpha": 2.0, "overrides": OWN}),
    "lora of Tucker's form": ("lora", CONVOLUTIONS, {"r": 3, "alpha": 2.0, "tucker": True}),
    "dora": ("dora", LAYERS, {"r": 3, "alpha": 2.0}),
    "loha": ("loha", LAYERS, {"r": 3, "alpha": 1.0}),
    "loha of Tucker's form": ("loha", CONVOLUTIONS, {"r": 3, "alpha": 2.0, "tucker": True}),
    "lokr": ("lokr", LAYERS, {"r": 1, "alpha": 3.0, "factor": 4}),
    "lokr, both factors of low rank": ("lokr", LAYERS, {"r": 1, "alpha": 0.5, "factor": 4, "decompose_both": True}),
    "lokr, both factors whole": ("lokr", LAYERS, {"r": 64, "alpha": 24.0, "factor": 4}),
    "full": ("full", LAYERS, {}),
    "oft": ("oft", LAYERS, {"b": 3, "side": "out"}),
    "oft, rescaled": ("oft", LAYERS, {"b": 3, "side": "out", "rescale": True}),
    "boft": ("boft", LAYERS, {"n": 2, "m": 2, "side": "out", "overrides": FOUR}),
    "boft of fewer factors": ("boft", LAYERS, {"n": 2, "side": "out"}),
    "glora": ("glora", LAYERS, {"r": 3, "alpha": 2.0, "side": "in", "inputs": "none", "biases": "none"}),
    "ia3": ("ia3", LAYERS, {"side": "out", "bias": False}),
    "ia3 of inputs": ("ia3", LAYERS, {"side": "in"}),
}


def merged(folder: Path, adapter: adaptr.Adapter, name: str) -> Path:
    out = folder / f"{name}.merged.safetensors"
    adaptr.merge(folder / "base.safetensors", adapter, out, receipt=False)
    return out


def of(weights: Path) -> list[float]:
    net = drawn()
    net.load_state_dict(load_file(weights))
    found: list[float] = outputs(net).tolist()
    return found


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    yield {"name": "the base", "adapter": "", "outputs": of(folder / "base.safetensors")}
    for number, (name, (method, layers, config)) in enumerate(CASES.items()):
        adapter = shaken(adaptr.create(drawn(), method, layers, **config), number, by=0.15)
        adaptr.save(adapter, folder / f"own{number}.adaptr.safetensors")
        written = folder / f"kohya{number}.safetensors"
        adaptr.convert(folder / f"own{number}.adaptr.safetensors", written, to="kohya")
        said = {"name": name, "adapter": written.name, "outputs": of(merged(folder, adapter, written.stem))}
        yield {**said, **({"limit": ROUNDED} if method in ("oft", "boft") else {})}
    for case in cases.read(folder, "theirs.json"):
        theirs = adaptr.load(folder / case["adapter"], drawn())
        yield {**case, "merged": merged(folder, theirs, case["adapter"]).name}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), base="base.safetensors", limit=1e-6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
