"""The same adapters as adaptr reads them, on transformers 5, and what models give with them. make.py FOLDER"""

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

#: What is refused, by kinds of models.
NEITHER = ("bart", "mbart", "plbart", "t5", "mt5", "whisper", "albert")
REFUSED = {
    *(f"seq_bn_inv on {kind}" for kind in (*NEITHER, "gptj")),
    *(f"{method} on gptj" for method in ("seq_bn", "par_bn")),
    *(f"{method} on beit" for method in ("double_seq_bn", "seq_bn", "par_bn")),
    *(f"{method} on {kind}" for method in ("prompt", "prompt_bos") for kind in ("albert", "vit", "beit")),
}


def read(folder: Path, case: dict[str, Any], model: Any) -> Any:
    """An adapter, or what several are in; None for what is refused, and has to be."""
    if "texts" in case:
        return adaptr.block(folder / case["adapter"], model)
    refused = case["name"] in REFUSED or case["base"] == "xmod"
    try:
        found = adaptr.load(folder / case["adapter"], model)
    except adaptr.errors.Unsupported:
        if refused:
            return None
        raise
    assert not refused, case["name"]
    return found


def outputs(folder: Path) -> Iterator[dict[str, Any]]:
    for case in cases.read(folder, "theirs.json"):
        place = folder / case["base"]
        model = getattr(t, case["model"]).from_pretrained(place, attn_implementation="eager").eval()
        with torch.no_grad():
            given = load_file(folder / f"{case['base']}-given.safetensors")
            if not case["adapter"]:
                yield {**case, "found": output(model, given, case)}
                continue
            adapter = read(folder, case, model)
            if adapter is None:
                continue
            with adaptr.attach(model, adapter):
                yield {**case, "found": output(model, given, case)}


def output(model: Any, given: dict[str, torch.Tensor], case: dict[str, Any]) -> Any:
    """Of set-ups by texts, for each of which a Parallel gives several."""
    found = model(**given)[0]
    return found.unflatten(0, (-1, case["texts"])).tolist() if "texts" in case else found.tolist()


def main(folder: Path) -> None:
    cases.write(folder, outputs(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
