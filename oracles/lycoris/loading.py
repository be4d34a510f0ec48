"""A net with an adapter's file on it, as LyCORIS loads it, and the precision that its forward is for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

logging.disable(logging.CRITICAL)
from lycoris import create_lycoris_from_weights  # noqa: E402
from lycoris.modules.ia3 import IA3Module  # noqa: E402


def applied(net: nn.Module, file: Path) -> tuple[nn.Module, torch.dtype]:
    """OFT and BOFT run in fp32 alone."""
    found = load_file(file)
    vectors = any(key.endswith(".on_input") for key in found)
    modules: Any = _vectors(net, found) if vectors else create_lycoris_from_weights(1.0, str(file), net)[0].loras
    dtype = torch.float32 if any(key.endswith(".oft_blocks") for key in found) else torch.float64
    for module in modules:
        module.to(dtype).eval().apply_to()
    return net, dtype


def _vectors(net: nn.Module, found: dict[str, torch.Tensor]) -> list[IA3Module]:
    """Its own loader raises for every (IA)3: the modules that it would make."""
    made = []
    for path, layer in net.named_modules():
        name = f"lycoris_{path.replace('.', '_')}"
        if f"{name}.on_input" in found:
            module = IA3Module(name, layer, train_on_input=bool(found[f"{name}.on_input"]))
            module.weight.data.copy_(found[f"{name}.weight"])
            made.append(module)
    return made
