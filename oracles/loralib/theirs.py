"""Adapters as loralib itself saves them, and what its layers compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import loralib
import torch
from nets import Net, outputs
from safetensors.torch import save_file

#: Case to the alpha, the parts of the fused projection that have factors, and the biases that are saved.
CASES: dict[str, tuple[float, list[bool], str]] = {
    "queries and values": (6, [True, False, True], "none"),
    "keys alone": (3, [False, True, False], "none"),
    "all parts, a head that trained too": (5, [True, True, True], "all"),
    "biases of what has factors": (6, [True, False, True], "lora_only"),
}


def drawn(net: Net, seed: int) -> Net:
    """The same base each time, and factors that are nothing's start."""
    base, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    for name, value in sorted(net.named_parameters()):
        value.data = 0.3 * torch.randn(value.shape, generator=own if "lora_" in name else base)
    return net


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    bare = drawn(Net(0, 1, [False]), 0)
    save_file(bare.state_dict(), folder / "base.safetensors")
    yield {"name": "the base", "adapter": "", "outputs": outputs(bare).tolist()}
    for number, (name, (alpha, parts, biases)) in enumerate(CASES.items()):
        net = drawn(Net(3, alpha, parts), number + 1)
        if biases != "none":
            for key, value in net.named_parameters():
                value.data += 0.5 if key.endswith("bias") and (biases == "all" or "classifier" not in key) else 0
        loralib.mark_only_lora_as_trainable(net, biases)
        saved = folder / f"lora{number}.pt"
        torch.save(loralib.lora_state_dict(net, biases), saved)
        yield {"name": name, "adapter": saved.name, "alpha": alpha, "parts": parts, "outputs": outputs(net).tolist()}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", base="base.safetensors", limit=1e-5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
