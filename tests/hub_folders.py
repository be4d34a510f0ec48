"""AdapterHub's folders: genuine ones, where they are at hand, and made-up ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import adaptr

MODELS = ("bert", "gpt2", "llama")
#: Heads lie beside the adapters, and are tried by the tests themselves.
HEADS = pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
#: Gates are of texts without padding.
GATES = pytest.mark.filterwarnings("ignore:.*gates are means over padding:adaptr.errors.TrainedOtherwise")
CONFIG = {"model_class": "LlamaAdapterModel", "model_type": "llama", "name": "mine"}
LORA = {"architecture": "lora", "r": 2, "alpha": 4, "attn_matrices": ["q", "v"], "composition_mode": "add"}
Q = "model.layers.0.self_attn.q_proj.loras.mine"
BOTTLENECK = {"mh_adapter": False, "output_adapter": True, "non_linearity": "relu", "original_ln_before": True}
OUTPUT = "model.layers.0.output_adapters.adapters.mine"


def there(shared: Path, model: str, case: str) -> Path:
    folder = shared / "formats-refs" / "adapterhub" / model / case
    if not folder.exists():
        pytest.skip(f"AdapterHub has no `{case}` for {model}")
    return folder


def loaded(folder: Path, case: str, host: Any) -> adaptr.Adapter:
    """Which intervention it is, is said where the file does not say it."""
    return adaptr.load(adaptr.source(folder, reft=case) if case in ("noreft", "direft") else folder, host)


def headed(hidden: Tensor, folder: Path, ids: Tensor, model: str) -> Tensor:
    """What AdapterHub's classification head makes of the first token, of models that look back of the last."""
    if not (folder / "head_config.json").exists():
        return hidden
    found = torch.load(folder / "pytorch_model_head.bin", weights_only=True)
    at = torch.zeros(len(ids), dtype=torch.long) if model == "bert" else ids.ne(0).sum(1) - 1
    z = hidden[torch.arange(len(ids)), at]
    layers = sorted({key.rpartition(".")[0] for key in found})
    for number, layer in enumerate(layers):
        z = torch.nn.functional.linear(z.tanh() if number else z, found[f"{layer}.weight"], found[f"{layer}.bias"])
    return z


def saved(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any] = LORA, **whole: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, "config": config, **whole}))
    return folder


def pair(path: str = Q, r: int = 2) -> dict[str, Tensor]:
    return {f"{path}.lora_A": torch.randn(r, 6), f"{path}.lora_B": torch.randn(5, r)}


def bottleneck(path: str = OUTPUT) -> dict[str, Tensor]:
    sizes = {"adapter_down.0.weight": (2, 4), "adapter_down.0.bias": (2,), "adapter_up.weight": (4, 2),
             "adapter_up.bias": (4,)}  # fmt: skip
    return {f"{path}.{slot}": torch.randn(size) for slot, size in sizes.items()}
