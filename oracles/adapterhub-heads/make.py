"""The same adapters with their heads as adaptr reads them, on transformers 5, what models give with them, and the same
written again. make.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import torch
import transformers as t
from safetensors.torch import load_file

import adaptr


def answers(out: Any) -> list[Any]:
    both = [out[name] for name in ("start_logits", "end_logits") if name in out]
    found: list[Any] = (torch.stack(both) if both else out.logits).tolist()
    return found


def alone(adapter: adaptr.Adapter) -> adaptr.Adapter:
    """An adapter of which the head is left."""
    tensors = {key: 0 * one if key.endswith((":B", ":lora.B")) else one for key, one in adapter.tensors.items()}
    return adapter.replace(tensors=tensors)


def outputs(folder: Path) -> Iterator[dict[str, Any]]:
    for case in cases.read(folder, "theirs.json"):
        torch.manual_seed(5)
        place, name = folder / case["body"], str(case["base"])
        more = {"num_labels": case["labels"]} if case["labels"] else {}
        model = getattr(t, case["model"]).from_pretrained(place, attn_implementation="eager", **more).eval()
        given = load_file(folder / f"{name}-given.safetensors")
        adapter = adaptr.load(folder / name, model)
        with torch.no_grad(), adaptr.attach(model, adapter if case["adapter"] else alone(adapter)):
            yield {**case, "found": answers(model(**given))}
        if not case["adapter"]:
            continue
        adaptr.save(adapter, folder / f"{name}.safetensors")
        base = place if case["labels"] else model  # a body has no place for what is as wide as a vocabulary
        adaptr.convert(folder / f"{name}.safetensors", folder / f"{name}-again", to="adapterhub", base=base)
        yield {**case, "name": f"{case['name']}, written", "adapter": f"{name}-again", "found": None}


def main(folder: Path) -> None:
    cases.write(folder, outputs(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
