"""Writes `merged/` beside this file: a merge as adaptr 0.1.0 (commit 5f4565d) left it, with a receipt of format 2.

Run with that release alone; what it wrote is frozen. Factors are small binary fractions, so that 0.1.0's fp32 products
are exact and its receipt can be read on any machine.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import adaptr
from adaptr.adapter import Adapter, Target

HERE = Path(__file__).parent
OUT, IN = 24, 40


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Eighths from -1 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, shape, generator=generator).float() / 8


def adapter(method: str, path: str, config: dict[str, object], tensors: dict[str, torch.Tensor]) -> Adapter:
    target = Target(path, "linear", (OUT, IN), config)
    return Adapter(method, config, {path: target}, {f"{path}:{name}": t for name, t in tensors.items()}, name=method)


def stack() -> list[tuple[Adapter, float]]:
    pair = {"A": drawn(1, 2, IN) / 16, "B": drawn(2, OUT, 2)}
    lora = {"r": 2, "alpha": 2.0, "dropout": 0.0, "rslora": False, "bias": False}
    dora = {"r": 2, "alpha": 2.0, "dropout": 0.0, "rslora": False}
    return [
        *((adapter("lora", path, lora, pair), 1.0) for path in ("bf16", "fp16", "fp32")),
        (adapter("dora", "dora", dora, {**pair, "m": 1 + drawn(3, OUT).abs()}), 0.5),
        (adapter("ia3", "ia3", {"side": "out"}, {"l": 1 + drawn(4, OUT) / 16}), 1.0),
    ]


def base() -> dict[str, torch.Tensor]:
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "dora": torch.bfloat16, "ia3": torch.bfloat16}
    names = ("bf16", "fp16", "fp32", "dora", "ia3", "untouched")
    generator = torch.Generator().manual_seed(5)
    made = {name: torch.randn(OUT, IN, generator=generator) for name in names}
    return {f"{name}.weight": t.to(dtypes.get(name, torch.float32)) for name, t in made.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "base"
        place.mkdir()
        save_file(base(), place / "model.safetensors", {"format": "pt"})
        adaptr.merge(place, stack(), HERE / "merged", force=True)
        found = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
        (HERE / "base.sha256").write_text(found + "\n")
