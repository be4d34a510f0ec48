"""Checkpoints of which one weight is floats, loaded by transformers under the configuration that the packing gives.

Each scheme needs its library, and is skipped where that is not installed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adaptr.packings import claimed
from packed_files import held

#: Reference, library that loads it, and how much of the logits may differ: where activations are quantised for packed
#: layers, or where the library multiplies by a packed matrix in its own way.
REFERENCES = {
    "bnb-nf4": ("bitsandbytes", 0.02),
    "bnb-int8": ("bitsandbytes", 0.1),
    "fp8-block": ("transformers", 0.0),
    "ct-int4-g128": ("compressed_tensors", 0.0),
    "ct-int8-channel": ("compressed_tensors", 0.0),
    "ct-int8-w8a8": ("compressed_tensors", 0.1),
    "ct-fp8-tensor": ("compressed_tensors", 0.1),
    "ct-fp8-channel": ("compressed_tensors", 0.1),
    "ct-fp8-block": ("compressed_tensors", 0.1),
    "ct-nvfp4": ("compressed_tensors", 0.0),
    "ct-mxfp4": ("compressed_tensors", 0.0),
    "mxfp4": ("transformers", 0.0),
    "torchao-int8": ("torchao", 0.02),
    "torchao-float8": ("torchao", 0.02),
    "torchao-intx4": ("torchao", 0.02),
}


def logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(3, 19)[None]).logits.float()
    return found


def partly(folder: Path, out: Path) -> Path:
    """The same checkpoint with its first weight as floats."""
    shutil.copytree(folder, out)
    for file in out.iterdir():
        file.chmod(0o644)
    stored, parts = next(
        (one, parts) for one, parts in held(folder) if one.name.endswith(("q_proj.weight", "down_proj"))
    )
    tensors = load_file(out / "model.safetensors")
    with safe_open(out / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    for part in stored.parts.values():
        del tensors[part.name]
    tensors[stored.name] = stored.codec.decode(parts, 0, stored.codec.shape[0]).to(torch.bfloat16).contiguous()
    config = json.loads((out / "config.json").read_text())
    packing = claimed(config["quantization_config"])
    assert packing is not None
    floats = {stored.name.rpartition(".")[0], "lm_head", "model.embed_tokens"}
    config["quantization_config"] = packing.floated(config["quantization_config"], floats)
    (out / "config.json").write_text(json.dumps(config))
    save_file(tensors, out / "model.safetensors", dict(packing.metadata(metadata, {stored.name})))
    return out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFERENCES)
def test_transformers_computes_the_same(shared: Path, tmp_path: Path, name: str) -> None:
    library, most = REFERENCES[name]
    pytest.importorskip(library, reason=f"{library} is not installed")
    folder = shared / "quant-refs" / name
    whole, part = logits(folder), logits(partly(folder, tmp_path / "base"))
    assert float((part - whole).norm() / whole.norm()) <= most
