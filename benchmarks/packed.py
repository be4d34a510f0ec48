"""What merging into quantised models costs: `python benchmarks/packed.py MODEL TEXT [LINES]` writes a line of JSON for
each cell to LINES (`packed.jsonl` beside this file), which `docs/quantised-models.md` shows.

MODEL is a folder with a small causal model in floats, TEXT one that it was not trained on; examples/ has the records
of the adapter, which is trained on the model in bf16. Then, for each packing and each size of the adapter: the packed
base with the adapter attached, which is what all others are compared with; without it; merged to floats; packed again;
packed again with the compensation of rank 8 and 16; and by PEFT's `merge_and_unload` into bitsandbytes' layers.
"""

from __future__ import annotations

import itertools
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure
import packed_layouts
from packed_yardstick import SIZES, TRAINED, Weights, Yardstick, change, decoded, kept, line, sized

import adaptr
from adaptr import Adapter
from adaptr.errors import NothingChanged

EXAMPLES = Path(__file__).parents[1] / "examples"
LINES = Path(__file__).with_suffix(".jsonl")
FLOATS = "bf16"
#: How a base is merged into, by name.
WAYS: dict[str, dict[str, Any]] = {
    "floats": {},
    "packed": {"packed": True, "lossy": True},
    "packed + 8": {"packed": True, "compensate": 8},
    "packed + 16": {"packed": True, "compensate": 16},
}
#: Of adapters that have learned nothing.
RANDOM = ("packed", "packed + 16")
#: PEFT merges into these; what is done with the loaded model before.
PEFT = {"nf4": ("", "evaluated", "packed for the processor"), "int8": ("", "evaluated")}


def merge(base: str, adapter: str, out: str, way: str) -> None:
    """The process whose time and memory are measured. `way`: one of them, with ", no receipt" behind it or not."""
    adaptr.load(adapter)  # imports
    started, cpu = time.perf_counter(), time.process_time()
    name, _, bare = way.partition(", ")
    changed = True
    try:
        adaptr.merge(base, adapter, out, receipt=not bare, **WAYS[name])
    except NothingChanged:
        changed = False
    taken = {"changed": changed, "work": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    print(json.dumps({**taken, "peak": measure.peak()}))


def merged(scheme: str, place: Path, adapter: Path, base: Weights, D: Weights, yard: Yardstick) -> Iterator[Any]:
    """The cells of adaptr's own merges."""
    for way in (WAYS if yard.answering else RANDOM) if scheme != FLOATS else ["floats"]:
        out = place / "out"
        measure.remove(out)
        did = measure.process(measure.own("packed.py", "merge", str(place / scheme), str(adapter), str(out), way))
        if not did.said["changed"]:
            yield {"way": way, **kept(base, base, D), "refused": True}
            continue
        after = decoded(out)
        yard.put(after)
        beside = out / "adaptr" / "compensation.safetensors"
        more = adaptr.load(beside) if "+" in way else None
        for name, C in change(more).items() if more else ():
            after[name] = after[name] + C
        size = (out / "model.safetensors").stat().st_size + (beside.stat().st_size if more else 0)
        costs = {"seconds": did.work, "cpu": did.said["cpu"], "peak_mb": did.peak, "bytes": size}
        yield {"way": way, **kept(base, after, D), **yard.measure(more), **costs}


def by_peft(scheme: str, place: Path, adapter: Path, base: Weights, D: Weights) -> Iterator[Any]:
    """The cells of PEFT's merges: into layers as they were loaded, and after what a forward may do to them."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    measure.remove(folder := place / "peft")
    adaptr.convert(adapter, folder, to="peft")
    for before in PEFT.get(scheme, ()):
        model = AutoModelForCausalLM.from_pretrained(place / scheme, dtype=torch.bfloat16)
        model = PeftModel.from_pretrained(model, folder).eval()
        if before:
            with torch.inference_mode():
                model(torch.arange(32)[None])
        if before.startswith("packed"):
            _pack_for_processor(model)
        after = {**base, **_of_layers(model.merge_and_unload())}
        yield {"way": f"peft {before}".strip(), **kept(base, after, D)}


def _pack_for_processor(model: Any) -> None:
    """What an evaluation does by itself on processors with products of bf16 (avx512_bf16), and on others not."""
    from bitsandbytes import functional, nn

    for layer in model.modules():
        if isinstance(layer, nn.Linear4bit) and not getattr(layer.weight.quant_state, "packing_format_for_cpu", False):
            packed, state = functional._convert_weight_packed_for_cpu(layer.weight.data, layer.weight.quant_state)
            layer.weight.data, layer.weight.quant_state = packed, state


def _of_layers(model: Any) -> Weights:
    from bitsandbytes import nn
    from peft.utils.integrations import dequantize_bnb_weight

    return {
        f"{name}.weight": dequantize_bnb_weight(layer.weight, state=getattr(layer, "state", None)).float()
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear4bit | nn.Linear8bitLt)
    }


def cells(scheme: str, place: Path, name: str, adapter: Adapter, base: Weights, yard: Yardstick) -> Iterator[Any]:
    """Those of an adapter."""
    size = (place / scheme / "model.safetensors").stat().st_size
    file, D = place / "a.safetensors", change(adapter)
    adaptr.save(adapter, file, force=True)
    yard.answering = name.startswith(TRAINED)
    yard.put(base)
    yield {"way": "attached", **yard.measure(adapter, True), "bytes": size + file.stat().st_size}
    yield {"way": "base", **kept(base, base, D), **yard.measure(), "bytes": size}
    yield from merged(scheme, place, file, base, D, yard)
    yield from by_peft(scheme, place, file, base, D)


def train(base: Path, out: Path) -> Adapter:
    """Answers like a pirate, as in the README."""
    if not out.exists():
        given: dict[str, Any] = {"steps": 24, "rate": 2e-3, "config": {"r": 8}, "samples": 0}
        adaptr.fit(base, EXAMPLES / "capitals.jsonl", out, **given)
        shutil.rmtree(f"{out}.run", ignore_errors=True)
    return adaptr.load(out).replace(base=adaptr.Base())  # the packed base has other weights than it was trained on


def about(text: Path) -> dict[str, Any]:
    known = ("torch", "transformers", "peft", "bitsandbytes")
    return {"text": text.name, "date": str(date.today()), **{name: version(name) for name in known},
            "python": platform.python_version()}  # fmt: skip


def main(model: Path, text: Path, lines: Path) -> None:
    place = measure.workplace() / "packed"
    floats = place / FLOATS
    if not (floats / "config.json").exists():
        floats.mkdir(parents=True)
        packed_layouts.bf16(model, floats)
    trained = train(floats, place / "pirate.safetensors")
    yard = Yardstick(floats, EXAMPLES / "capitals-held-out.jsonl", text)
    there = [json.loads(one) for one in lines.read_text().splitlines()] if lines.exists() else []
    known = {(one.get("scheme"), one.get("adapter")) for one in there}
    for name, scheme in itertools.product(SIZES, (FLOATS, *packed_layouts.MAKERS)):
        if (scheme, name) not in known:
            base = decoded(packed_layouts.made(scheme, floats, place) if scheme != FLOATS else floats)
            which = {"table": "merge", "scheme": scheme, "adapter": name}
            found = cells(scheme, place, name, sized(name, trained, base), base, yard)
            done = [line({**which, **cell, **about(text)}) + "\n" for cell in found]
            with lines.open("a", encoding="utf-8") as file:
                file.writelines(done)


if __name__ == "__main__":
    if sys.argv[1:2] == ["merge"]:
        merge(*sys.argv[2:])
    else:
        first, second, *rest = map(Path, sys.argv[1:])
        main(first, second, rest[0] if rest else LINES)
