"""Beside `packed.py`: `python benchmarks/packed_costs.py TABLE MODEL TEXT [LINES]` appends a line of JSON a row.

`speed`: merges into three layers of Llama at 2048 x 8192 in floats and packed, a process each, round after round.
`types`: the perplexity of MODEL on TEXT with its linear layers in types of four bits, as QLoRA's paper compares them.
`training`: `adaptr train` on MODEL in floats and in NF4.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import measure
import packed_layouts
import synthetic
from packed import EXAMPLES, FLOATS, LINES, about
from packed_yardstick import Weights, Yardstick, decoded, line

import adaptr
from adaptr.adapter import Adapter, Target
from adaptr.adapter.packed import NF4

SHAPE = synthetic.Shape(hidden=2048, ffn=8192, layers=3, heads=16, kv_heads=8, vocab=1000)
SPEEDS = ((FLOATS, "floats"), *((scheme, way) for scheme in ("nf4", "int8", "fp8") for way in ("floats", "packed")))
ROUNDS = 3
#: Values that share an absmax, and absmax that share one.
BLOCK, NESTED = 64, 256
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E3M0 = (0.0, *(2.0**power for power in range(7)))
TRAININGS: Mapping[str, dict[str, Any]] = {
    "LoRA, base in floats": {},
    "LoRA, base in NF4": {"base_quant": "nf4"},
    "QLoRA: NF4, double quantisation": {"base_quant": "nf4", "double_quant": True},
}
#: The difference of these runs is what steps take.
FEW, MANY = 2, 10

Row = dict[str, Any]


def speed(model: Path, text: Path) -> Iterator[Row]:
    place = measure.workplace() / "packed-speed"
    if not (place / FLOATS / "config.json").exists():
        synthetic.llama(place / FLOATS, SHAPE, shards=1)
    adaptr.save(_lora(), file := place / "a.safetensors", force=True)
    found: dict[tuple[str, str], list[measure.Sample]] = {case: [] for case in SPEEDS}
    for _ in range(ROUNDS):
        for (scheme, way), samples in found.items():
            base = packed_layouts.made(scheme, place / FLOATS, place) if scheme != FLOATS else place / FLOATS
            measure.remove(out := place / "out")
            command = measure.own("packed.py", "merge", str(base), str(file), str(out), f"{way}, no receipt")
            samples.append(measure.process(command))
    for (scheme, way), samples in found.items():
        row: Row = {"scheme": scheme, "way": way, "peak_mb": max(sample.peak for sample in samples)}
        for name, each in (("seconds", [s.work for s in samples]), ("cpu", [s.said["cpu"] for s in samples])):
            row |= {name: statistics.median(each), f"{name} from": min(each), f"{name} to": max(each)}
        yield row


def _lora() -> Adapter:
    import torch

    torch.manual_seed(0)
    targets, tensors = {}, {}
    for layer in range(SHAPE.layers):
        for name, (rows, columns) in SHAPE.linears().items():
            path = f"model.layers.{layer}.{name}"
            targets[path] = Target(path, "linear", (rows, columns), {"r": 16, "alpha": 16})
            tensors |= {f"{path}:A": torch.randn(16, columns) * 0.02, f"{path}:B": torch.randn(rows, 16) * 0.01}
    return Adapter("lora", {}, targets, tensors)


def types(model: Path, text: Path) -> Iterator[Row]:
    base = decoded(model)
    yard = Yardstick(model, EXAMPLES / "capitals-held-out.jsonl", text)
    for name, packed in _types().items():
        yard.put({key: packed(W) if _is_linear(key, W) else W for key, W in base.items()})
        yield {"type": name, "perplexity": yard.measure()["perplexity"], "error": _error(base, packed)}


def _types() -> Mapping[str, Callable[[Any], Any]]:
    whole = tuple(range(8))
    return {
        "fp32": lambda W: W,
        "int4": lambda W: _nearest(W, _signed(whole)),
        "fp4 (E2M1)": lambda W: _nearest(W, _signed(E2M1)),
        "fp4 (E3M0)": lambda W: _nearest(W, _signed(E3M0)),
        "nf4": lambda W: _nearest(W, NF4),
        "nf4 with double quantisation": _doubly,
    }


def _signed(levels: tuple[float, ...]) -> tuple[float, ...]:
    return (*(-one / levels[-1] for one in levels[:0:-1]), *(one / levels[-1] for one in levels))


def _nearest(W: Any, levels: tuple[float, ...]) -> Any:
    """In blocks over the flat weight, each times its absmax."""
    import torch

    blocks, table = W.reshape(-1, BLOCK), torch.tensor(sorted(levels))
    absmax = blocks.abs().amax(1, keepdim=True)
    return (table[torch.bucketize(blocks / absmax, (table[1:] + table[:-1]) / 2)] * absmax).view_as(W)


def _doubly(W: Any) -> Any:
    from bitsandbytes import functional

    return functional.dequantize_4bit(*functional.quantize_4bit(W, quant_type="nf4", compress_statistics=True))


def _is_linear(name: str, W: Any) -> bool:
    return ".layers." in name and W.ndim == 2


def _error(base: Weights, packed: Callable[[Any], Any]) -> float:
    mine = [W for name, W in base.items() if _is_linear(name, W)]
    lost = sum(float((packed(W) - W).square().sum()) for W in mine)
    return math.sqrt(lost / sum(float(W.square().sum()) for W in mine))


def training(model: Path, text: Path) -> Iterator[Row]:
    for name in TRAININGS:
        few, many = (
            measure.process(measure.own("packed_costs.py", "train", name, str(model), str(n))) for n in (FEW, MANY)
        )
        steps = MANY - FEW
        took = {"cpu": (many.said["cpu"] - few.said["cpu"]) / steps, "seconds": (many.work - few.work) / steps}
        yield {"way": name, **took, "peak_mb": many.peak}


def train(name: str, model: str, steps: str) -> None:
    """The process that is measured."""
    out = measure.workplace() / "trained.safetensors"
    measure.remove(out, Path(f"{out}.run"))
    given: dict[str, Any] = {"batch": 4, "config": {"r": 16}, "samples": 0, "save_every": 0, **TRAININGS[name]}
    started, cpu = time.perf_counter(), time.process_time()
    adaptr.fit(model, EXAMPLES / "spelling.jsonl", out, steps=int(steps), **given)
    took = {"work": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "peak": measure.peak()}))


TABLES = {"speed": speed, "types": types, "training": training}


def main(table: str, model: str, text: str, lines: str = str(LINES)) -> None:
    for row in TABLES[table](Path(model), Path(text)):
        with open(lines, "a", encoding="utf-8") as file:
            file.write(line({"table": table, **row, **about(Path(text))}) + "\n")


if __name__ == "__main__":
    train(*sys.argv[2:]) if sys.argv[1] == "train" else main(*sys.argv[1:])
