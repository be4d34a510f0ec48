"""Adapters as LyCORIS itself saves them, and what it computes with them. theirs.py FOLDER"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import torch
from loading import applied
from nets import drawn, outputs
from safetensors.torch import load_file, save_file
from torch import nn

logging.disable(logging.CRITICAL)
from lycoris import create_lycoris  # noqa: E402

#: Case to the arguments of `create_lycoris`.
CASES: dict[str, dict[str, Any]] = {
    "lora": {"algo": "lora", "linear_dim": 3, "linear_alpha": 2, "conv_dim": 2, "conv_alpha": 1},
    "locon of Tucker's form": {"algo": "locon", "linear_dim": 4, "linear_alpha": 2, "use_tucker": True},
    "lora, a scalar that trained": {"algo": "lora", "linear_dim": 3, "linear_alpha": 1, "use_scalar": True},
    "lora beside norms": {"algo": "lora", "linear_dim": 2, "linear_alpha": 1, "train_norm": True},
    "dora": {"algo": "lora", "linear_dim": 3, "linear_alpha": 2, "dora_wd": True},
    "dora of Tucker's form": {"algo": "locon", "linear_dim": 4, "linear_alpha": 2, "use_tucker": True, "dora_wd": True},
    "loha": {"algo": "loha", "linear_dim": 3, "linear_alpha": 1},
    "loha of Tucker's form": {"algo": "loha", "linear_dim": 3, "linear_alpha": 2, "use_tucker": True},
    "lokr": {"algo": "lokr", "linear_dim": 2, "linear_alpha": 1, "factor": 4},
    "lokr, both factors of low rank": {"algo": "lokr", "linear_dim": 1, "linear_alpha": 0.5, "factor": 4,
                                       "decompose_both": True},
    "lokr, both factors whole": {"algo": "lokr", "linear_dim": 10000, "linear_alpha": 3, "factor": 4,
                                 "full_matrix": True},
    "lokr of Tucker's form": {"algo": "lokr", "linear_dim": 1, "linear_alpha": 0.5, "factor": 2, "use_tucker": True},
    "lokr, unbalanced": {"algo": "lokr", "linear_dim": 2, "linear_alpha": 1, "factor": 4,
                         "unbalanced_factorization": True},
    "full": {"algo": "full", "linear_dim": 4, "linear_alpha": 1},
    "diag-oft": {"algo": "diag-oft", "linear_dim": 4},
    "diag-oft, constrained": {"algo": "diag-oft", "linear_dim": 4, "constraint": 0.03},
    "diag-oft, rescaled": {"algo": "diag-oft", "linear_dim": 4, "rescaled": True},
    "boft": {"algo": "boft", "linear_dim": 18, "conv_dim": 6},
    "boft, constrained and rescaled": {"algo": "boft", "linear_dim": 18, "conv_dim": 6, "constraint": 0.03,
                                       "rescaled": True},
    "glora": {"algo": "glora", "linear_dim": 3, "linear_alpha": 2},
    "ia3": {"algo": "ia3"},
    "dylora of linear layers": {"algo": "dylora", "linear_dim": 4, "linear_alpha": 2, "block_size": 2},
}  # fmt: skip
#: The convolutions' own, which its loader can't read of a DyLoRA.
UNREAD = ("conv", "point", "line")


def shaken(network: Any, seed: int) -> Any:
    draw = torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        noise = 0.15 * torch.randn(value.shape, generator=draw)
        if name.endswith(("dora_scale", "rescale")):
            value.data *= 1 + noise
        else:
            value.data = noise + (0.7 if name.endswith("scalar") else 0)
    return network


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    save_file(drawn().state_dict(), folder / "base.safetensors")
    for number, (name, arguments) in enumerate(CASES.items()):
        net = drawn()
        network = create_lycoris(net, 1.0, **arguments)
        network.apply_to()
        saved = folder / f"lycoris{number}.safetensors"
        said = {"ss_network_module": "lycoris.kohya", "ss_network_args": json.dumps({"algo": arguments["algo"]})}
        shaken(network, number).save_weights(str(saved), torch.float32, said)
        found = computed(net, network, saved, arguments["algo"])
        limits = {"limit": 4e-6} if "oft" in arguments["algo"] else {}
        yield {"name": f"theirs: {name}", "adapter": saved.name, "outputs": found.tolist(), **limits}


def computed(net: nn.Module, network: Any, saved: Path, algo: str) -> torch.Tensor:
    """What the network does; of a DyLoRA, which draws a rank each time, what it does when it is loaded."""
    if algo == "dylora":
        kept = {key: value for key, value in load_file(saved).items() if key.split(".")[0].split("_")[-1] not in UNREAD}
        save_file(kept, saved, {"ss_network_args": json.dumps({"algo": algo})})
        return outputs(*applied(drawn(), saved))
    dtype = torch.float32 if "oft" in algo else torch.float64
    return outputs(network.to(dtype).eval() and net, dtype)


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
