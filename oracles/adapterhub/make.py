"""The same modules in adaptr, on the same bases, and what models give with them. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import torch
import transformers as t
from safetensors.torch import load_file
from torch import Tensor

import adaptr
from adaptr import roles, targets

CLASSES = {"gpt2": t.GPT2LMHeadModel, "llama": t.LlamaForCausalLM, "t5": t.T5ForConditionalGeneration}
#: What the library does where adaptr's defaults do what the papers do.
CONFIG: dict[str, dict[str, Any]] = {
    "houlsby": {"m": 5, "activation": "silu"},
    "pfeiffer": {"m": 5, "residual": True},
    "parallel": {"m": 5, "s": 4.0},
    "compacter": {"m": 8, "n": 4, "activation": "gelu"},
    "compacter-pp": {"m": 8, "n": 4, "activation": "gelu"},
    "phm": {"m": 8, "n": 4, "activation": "gelu"},
    "loreft": {"r": 2, "first": 2, "last": 1, "finished": True},
    "noreft": {"r": 2, "first": 2, "last": 1, "share_weights": False},
}


def residual(model: Any) -> dict[str, dict[str, str]]:
    """A parallel adapter of the library's reads the residual, not what is normed of it."""
    modules = {path for path, _ in model.named_modules()}
    found = {
        target.path: roles.residual(target.path, modules) for target in targets.resolve(model, "ffn_out", {"module"})
    }
    kind = model.config.model_type
    return {
        path: {"reads": reads} for path, reads in found.items() if reads and not roles.sum_norm(path, kind, modules)
    }


def adapter(model: Any, method: str, theirs: dict[str, Tensor]) -> adaptr.Adapter:
    """Places of a sort come in the order of the model in both."""
    made = adaptr.create(model, method, overrides=residual(model) if method == "parallel" else None, **CONFIG[method])
    tensors = dict(made.tensors)
    for place in {key.partition(".")[0] for key in theirs}:
        mine = [target.path for target in targets.resolve(model, place, {"module"})]
        for number, path in enumerate(mine):
            for name in made.at(path):
                value = theirs[f"{place}.{number}.{name}"]
                tensors[f":{name}" if f":{name}" in tensors else f"{path}:{name}"] = value
    return made.replace(tensors=tensors)


def outputs(folder: Path) -> Iterator[dict[str, Any]]:
    for case in cases.read(folder, "theirs.json"):
        model = CLASSES.get(case["base"], t.AutoModel).from_pretrained(folder / case["base"]).eval()
        with torch.no_grad():
            given = load_file(folder / f"{case['base']}-given.safetensors")
            if not case["adapter"]:
                yield {**case, "found": model(**given)[0].tolist()}
                continue
            with adaptr.attach(model, adapter(model, case["method"], load_file(folder / case["adapter"]))):
                yield {**case, "found": model(**given)[0].tolist()}


def main(folder: Path) -> None:
    cases.write(folder, outputs(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
