"""What LitGPT saved, merged by adaptr into the base, or attached; and LLaMA-Adapters written for it. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import small_llama as small
import torch
from transformers import AutoModelForCausalLM

import adaptr
import merging
from adaptr.testing import shaken

ONE = "one-group"
#: adaptr's method to LitGPT's version.
VERSIONS = {"llama-adapter": 1, "llama-adapter-v2": 2}


def attached(model: Any, adapter: adaptr.Adapter) -> list[Any]:
    with torch.no_grad(), adaptr.attach(model, adapter):
        found: list[Any] = model(torch.tensor(small.IDS)).logits[0].tolist()
        return found


def made_in(folder: Path, prompts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(folder / ONE).eval()
    for case in prompts:
        read = case["adapter"] and adaptr.load(folder / case["adapter"], model)
        yield {**case, "outputs": attached(model, read)} if read else case
    for method, version in VERSIONS.items():
        for layers in (1, 2):
            adapter = shaken(adaptr.create(model, method, tokens=4, layers=layers), layers, by=0.3)
            file = folder / f"{method}-{layers}.adaptr.safetensors"
            adaptr.save(adapter, file)
            out = folder / f"{method}-{layers}"
            adaptr.convert(file, out, to="litgpt-adapter", base=model)
            said = {"adapter_prompt_length": 4, "adapter_start_layer": small.LAYERS - layers}
            name = f"ours: {method} of {layers} layers"
            yield {"name": name, "adapter": out.name, "base": ONE, "version": version, "said": said, "limit": 1e-4,
                   "outputs": attached(model, adapter)}  # fmt: skip


def main(folder: Path) -> None:
    every = cases.read(folder, "theirs.json")
    cases.write(folder, [case for case in every if "version" not in case], "theirs.json")
    merging.merge_all(folder, lambda case: adaptr.load(folder / case["adapter"]))
    prompts = [case for case in every if "version" in case]
    cases.write(folder, [*cases.read(folder), *made_in(folder, prompts)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
