"""Compose four rank-16 LoRAs on all linear layers: adaptr from files to a file, PEFT's `add_weighted_adapter` in
memory.

`python benchmarks/compose.py [ROUNDS [SHAPE]]`. Every process has one core, and what counts is its CPU seconds:
others may be at work. Imports are left out; for PEFT so are loading the base and the adapters and saving the result,
and adaptr is measured that way too. PEFT's `linear`, `ties` and `dare_ties` combine A and B each by itself, which is
not the combination of the deltas; its `svd`, `ties_svd` and `dare_ties_svd` work on the deltas, as adaptr does. Those
take minutes on the 1.1 B shape, so they are run on one of 22 layers and multiplied.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import measure
import synthetic

WEIGHTS = (0.4, 0.3, 0.2, 0.1)
OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {},
    "svd": {"rank": 16},
    "ties": {"rank": 16, "density": 0.5},
    "dare-ties": {"rank": 16, "density": 0.5},
}
#: adaptr's strategy and PEFT's type.
CASES = (
    ("linear", "linear"),
    ("svd", "svd"),
    ("ties", "ties_svd"),
    ("dare-ties", "dare_ties_svd"),
    ("ties", "ties"),
    ("dare-ties", "dare_ties"),
)
SHAPES = {"SmolLM2": synthetic.SMOLLM2, "1.1 B": synthetic.Shape()}


def adaptr_compose(strategy: str, out: str, *folders: str) -> None:
    """The process that is measured: first from files to a file, then, as PEFT is measured, from memory to memory."""
    import torch  # noqa: F401 - imports are not the work

    import adaptr
    import adaptr.composing.compose

    adaptr.load(folders[0])  # imports what reads PEFT's files

    def timed(sources: list[Any], *where: str) -> tuple[float, Any]:
        started = time.process_time()
        made = adaptr.compose(list(zip(sources, WEIGHTS, strict=True)), strategy, *where, **OPTIONS[strategy])
        return time.process_time() - started, made

    work, made = timed([*folders], out)
    said = {"work": work, "peak": measure.peak(), "error": made.report.error}
    del made
    held = [adaptr.load(folder) for folder in folders]
    held = [adapter.replace(tensors={key: adapter.tensors[key] for key in adapter.tensors}) for adapter in held]
    print(json.dumps({**said, "memory": timed(held)[0]}))


def peft_compose(kind: str, base: str, layers: str, *folders: str) -> None:
    """PEFT's own time for the call, on the first `layers` blocks."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    config.num_hidden_layers = int(layers)
    model = AutoModelForCausalLM.from_pretrained(base, config=config, dtype=torch.bfloat16)
    names = [f"a{i}" for i in range(len(folders))]
    model = PeftModel.from_pretrained(model, folders[0], adapter_name=names[0])
    for folder, name in zip(folders[1:], names[1:], strict=True):
        model.load_adapter(folder, adapter_name=name)
    options = {"density": 0.5} if "ties" in kind else {}
    options |= {"svd_rank": 16} if "svd" in kind else {}
    started = time.process_time()
    model.add_weighted_adapter(names, list(WEIGHTS), "mixed", combination_type=kind, **options)
    print(json.dumps({"work": time.process_time() - started, "peak": measure.peak()}))


def rows(name: str, shape: synthetic.Shape, rounds: int) -> Iterator[str]:
    place = measure.workplace()
    base = synthetic.llama(place / ("base" if name == "1.1 B" else "smollm2"), shape, 5 if name == "1.1 B" else 1)
    folders = [str(synthetic.lora(place / f"lora-{shape.hidden}-{i}", shape, seed=10 + i)) for i in range(4)]
    out = place / f"mixed-{shape.hidden}.safetensors"
    ours: dict[str, list[measure.Sample]] = {}
    for strategy, kind in CASES:
        layers = 1 if "svd" in kind and name == "1.1 B" else shape.layers
        theirs, known = [], strategy in ours
        for _ in range(rounds):
            if not known:
                command = measure.own("compose.py", "adaptr", strategy, str(out), *folders)
                out.unlink(missing_ok=True)
                ours.setdefault(strategy, []).append(measure.process(command, threads=1, cores=1))
            command = measure.own("compose.py", "peft", kind, str(base), str(layers), *folders)
            theirs.append(measure.process(command, threads=1, cores=1))
        both = {"adaptr": ours[strategy], "peft": theirs}
        files, memory = (statistics.median(s.said[key] for s in both["adaptr"]) for key in ("work", "memory"))
        other = statistics.median(s.work for s in both["peft"]) * shape.layers / layers
        peaks = [max(s.peak for s in samples) for samples in both.values()]
        cells = f"{files:.2f} | {memory:.2f} | {other:.2f} | {other / files:.1f} | {other / memory:.1f}"
        note = f"{kind}, {layers} of {shape.layers} layers x {shape.layers}" if layers < shape.layers else kind
        yield f"| {name} | {strategy} | {cells} | {peaks[0]:.0f} | {peaks[1]:.0f} | {note} |"


def main(rounds: int, only: str) -> None:
    print("\n### Compose: four LoRAs r=16 on all linear layers, one core\n")
    print(
        "| shape | strategy | adaptr, files to file s | adaptr, in memory s | PEFT, in memory s | PEFT / files to file "
        "| PEFT / in memory | adaptr peak MB | PEFT peak MB | PEFT's type |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name, shape in SHAPES.items():
        if only in name:
            for row in rows(name, shape, rounds):
                print(row, flush=True)


if __name__ == "__main__":
    verb = sys.argv[1] if len(sys.argv) > 1 else "1"
    if verb == "adaptr":
        adaptr_compose(*sys.argv[2:])
    elif verb == "peft":
        peft_compose(*sys.argv[2:])
    else:
        main(int(verb), sys.argv[2] if len(sys.argv) > 2 else "")
