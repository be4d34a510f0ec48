"""Adapters as adaptr writes them for a version of PEFT, and what adaptr computes with them. make.py FOLDER VERSION

What that version is too young for, adaptr refuses to write (`tests/foreign/test_versions.py`); here is what it writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import torch
import transformers

import adaptr
from adaptr.testing import shaken

IDS = [[5, 97, 80, 33, 120, 44, 101, 66, 72, 90, 113]]
SIZES = {"hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 3, "num_attention_heads": 6,
         "vocab_size": 262, "max_position_embeddings": 128, "pad_token_id": 0,
         "tie_word_embeddings": False}  # fmt: skip
#: `heads`: as many of keys as of queries, without which PEFT before 0.15 has no prefix.
BASES = {"llama": SIZES | {"num_key_value_heads": 2}, "heads": SIZES | {"num_key_value_heads": 6}}
LINEAR: dict[str, Any] = {"targets": "all-linear", "r": 3, "alpha": 5.0}
OWN = {"*.0.*q_proj": {"r": 2, "alpha": 4.0}, "*.2.*v_proj": {"r": 5}}
#: Case to the version that it came with, its base, its method and configuration.
CASES: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "lora": (4, "llama", "lora", LINEAR),
    "lora, table and head": (4, "llama", "lora", {**LINEAR, "targets": ["embed_tokens", "lm_head", "attn.q"]}),
    "lora, the last layer": (4, "llama", "lora", {**LINEAR, "targets": "*.2.*q_proj"}),
    "lora, ranks and scales of their own": (6, "llama", "lora", {**LINEAR, "targets": ["attn.q", "attn.v"],
                                                                 "overrides": OWN}),
    "lora, scale by the root of the rank": (8, "llama", "lora", {**LINEAR, "rslora": True}),
    "lora with biases": (14, "llama", "lora", {**LINEAR, "bias": True}),
    "dora": (9, "llama", "dora", LINEAR),
    "ia3": (4, "llama", "ia3", {}),
    "loha": (6, "llama", "loha", {"targets": "all-linear", "r": 2, "alpha": 3.0}),
    "lokr": (6, "llama", "lokr", {"targets": "all-linear", "r": 2, "alpha": 2.0}),
    "lokr, with a scale": (14, "llama", "lokr", {"targets": "all-linear", "r": 2, "alpha": 3.0}),
    "adalora": (4, "llama", "adalora", {"targets": ["attn.q", "mlp.up"], "r": 4}),
    "vera": (21, "llama", "vera", {"targets": ["attn.q", "mlp.down"], "r": 5}),
    "oft": (16, "llama", "oft", {"targets": ["attn.q", "mlp.down"], "b": 8}),
    "shira": (17, "llama", "shira", {"targets": ["attn.q", "attn.v"], "r": 3}),
    "trained tokens": (15, "llama", "trainable-tokens", {"tokens": [5, 97]}),
    "prompt": (4, "llama", "prompt", {"tokens": 4}),
    "prefix": (4, "heads", "prefix", {"tokens": 4, "position_offset": "shift"}),
}  # fmt: skip


def made(base: str) -> Any:
    """The same values each time, large enough that every layer is heard in the outputs."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**BASES[base])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.15)
    return model


def outputs(model: Any) -> list[Any]:
    with torch.no_grad():
        found: list[Any] = model(torch.tensor(IDS)).logits[0].double().tolist()
    return found


def made_in(folder: Path, version: str) -> Iterator[dict[str, Any]]:
    for base, sizes in BASES.items():
        made(base).save_pretrained(folder / base)
        (folder / f"{base}.json").write_text(json.dumps(sizes), "utf-8")
        yield {"name": f"{base}, the base", "base": base, "adapter": "", "outputs": outputs(made(base))}
    for number, (name, (since, base, method, config)) in enumerate(CASES.items()):
        if since > int(version.partition(".")[2]):
            continue
        model = made(base)
        adapter = shaken(adaptr.create(model, method, **config), number, by=0.15)
        own, to = folder / f"own{number}.adaptr.safetensors", f"peft@{version}"
        adaptr.save(adapter, own)
        adaptr.convert(own, folder / f"peft{number}", to=to, base=folder / base)
        with adaptr.attach(model, adapter):
            yield {"name": name, "base": base, "adapter": f"peft{number}", "outputs": outputs(model)}


def main(folder: Path, version: str) -> None:
    cases.write(folder, made_in(folder, version), ids=IDS, limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
