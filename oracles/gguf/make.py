"""Adapters that PEFT made, as adaptr writes them for llama.cpp, and what PEFT computes with them. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bases
import cases
import merged
import peft
import torch

import adaptr

IDS = [5, 97, 80, 33, 120, 44, 101, 66, 72, 90, 113]
LINEAR = {"target_modules": "all-linear"}
#: Of log-probabilities. Where an activation lies between two entries of the table of GELU, an error of 1e-7 before it
#: takes the other entry, so that models with it are not held to the same limit.
LIMIT, TABLE = 1e-5, 1e-3
LIMITS = dict.fromkeys(("gemma", "gemma2", "gemma3", "gpt2", "bloom", "falcon", "falcon-new"), TABLE)
LIMITS["llama-wide"] = 1e-4  # of longer sums
#: The base, what the adapter is called, its configuration.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "rslora", {**LINEAR, "use_rslora": True}),
    ("llama", "patterns", {**LINEAR, "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 6},
                           "alpha_pattern": {"v_proj": 3}}),
    ("llama", "rslora and patterns", {**LINEAR, "use_rslora": True, "rank_pattern": {"q_proj": 2}}),
    ("llama", "head and embeddings", {"target_modules": ["lm_head", "embed_tokens", "q_proj"]}),
    *((name, "plain", LINEAR) for name in bases.MAKERS),
]  # fmt: skip


def logprobs(model: Any) -> list[float]:
    with torch.no_grad():
        model = bases.as_there(model).eval()
        return torch.log_softmax(model(input_ids=torch.tensor([IDS])).logits[0, -1].double(), 0).tolist()


def trained(name: str, config: dict[str, Any], folder: Path) -> list[float]:
    """Saves PEFT's folder of an adapter that changes every layer; what PEFT computes with it."""
    own = {"r": 4, "lora_alpha": 10, "fan_in_fan_out": name == "gpt2", "task_type": "CAUSAL_LM"}
    model = peft.get_peft_model(bases.made(name), peft.LoraConfig(**{**own, **config}))
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder, save_embedding_layers=False)
    return logprobs(model)


#: Bases in GGUF files that adaptr doesn't read, as transformers doesn't know their names or sizes.
UNREAD = ("gemma", "phi3", "falcon-new", "qwen3")


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    bases.written(folder)
    for name in bases.MAKERS:
        bases.made(name).save_pretrained(folder / name)
        yield {"name": f"{name}, the base", "base": f"{name}.gguf", "adapter": "",
               "limit": LIMITS.get(name, LIMIT), "outputs": logprobs(bases.made(name))}  # fmt: skip
    for name, what, config in CASES:
        called = f"{name}-{what.replace(' ', '-')}"
        want = trained(name, config, folder / called)
        out = folder / f"{called}.lora.gguf"
        adaptr.convert(folder / called, out, to="gguf", base=folder / name)
        yield {"name": f"{name}, {what}", "base": f"{name}.gguf", "adapter": out.name,
               "limit": LIMITS.get(name, LIMIT), "outputs": want}  # fmt: skip
        if what == "plain" and name not in UNREAD:
            whole = folder / f"{called}-merged.gguf"
            adaptr.merge(folder / f"{name}.gguf", folder / called, whole, receipt=False, any_base=True)
            yield {"name": f"{name}, merged", "base": whole.name, "adapter": "", "limit": LIMITS.get(name, LIMIT),
                   "outputs": want}  # fmt: skip
    yield from merged.every(folder, IDS)


def main(folder: Path) -> None:
    written = ({"count": len(case.get("outputs", ())), **case} for case in made_in(folder))
    cases.write(folder, written, ids=IDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
