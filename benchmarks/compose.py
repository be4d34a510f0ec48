"""Compose four rank-16 LoRAs on all linear layers: adaptr from files to a file, PEFT's `add_weighted_adapter` in
memory.

`python benchmarks/compose.py [ROUNDS]`. "Work" leaves out imports; for PEFT it also leaves out loading the base and the
adapters and saving the result. PEFT's `linear`, `ties` and `dare_ties` combine A and B each by itself, which is not the
combination of the deltas; adaptr's work on the deltas. PEFT's `svd` of the 1.1 B shape is run on one of 22 layers and
multiplied, since it takes minutes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import measure
import synthetic

WEIGHTS = (0.4, 0.3, 0.2, 0.1)
CASES = {
    "linear": {},
    "svd": {"rank": 16},
    "ties": {"rank": 16, "density": 0.5},
    "dare-ties": {"rank": 16, "density": 0.5},
}
SHAPES = {"SmolLM2": synthetic.SMOLLM2, "1.1 B": synthetic.Shape()}


def adaptr_compose(strategy: str, out: str, *folders: str) -> None:
    """The process that is measured."""
    import torch  # noqa: F401 - imports are not the work

    import adaptr
    import adaptr.ops.compose

    started = time.perf_counter()
    made = adaptr.compose(list(zip(folders, WEIGHTS, strict=True)), strategy, out, force=True, **CASES[strategy])
    said = {"work": time.perf_counter() - started, "peak": measure.peak()}
    error = made.report.as_dict().get("error")
    print(json.dumps({**said, "error": error if isinstance(error, float) else 0.0}))


def peft_compose(strategy: str, base: str, layers: str, *folders: str) -> None:
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
    options = {"density": 0.5} if "ties" in strategy else {"svd_rank": 16} if strategy == "svd" else {}
    kind = strategy.replace("-", "_")
    started = time.perf_counter()
    model.add_weighted_adapter(names, list(WEIGHTS), "mixed", combination_type=kind, **options)
    print(json.dumps({"work": time.perf_counter() - started, "peak": measure.peak()}))


def rows(name: str, shape: synthetic.Shape, rounds: int) -> list[str]:
    place = measure.workplace()
    base = synthetic.llama(place / ("base" if name == "1.1 B" else "smollm2"), shape, 5 if name == "1.1 B" else 1)
    folders = [str(synthetic.lora(place / f"lora-{shape.hidden}-{i}", shape, seed=10 + i)) for i in range(4)]
    found = []
    for strategy in CASES:
        layers = 1 if strategy == "svd" and name == "1.1 B" else shape.layers
        ours = measure.own("compose.py", "adaptr", strategy, str(place / "mixed.safetensors"), *folders)
        theirs = measure.own("compose.py", "peft", strategy, str(base), str(layers), *folders)
        both: dict[str, list[measure.Sample]] = {"adaptr": [], "peft": []}
        for _ in range(rounds):
            both["adaptr"].append(measure.process(ours, threads=1))
            both["peft"].append(measure.process(theirs, threads=1))
        factor = shape.layers / layers
        mine, other = (statistics.median(s.work for s in both[who]) for who in ("adaptr", "peft"))
        other *= factor
        peaks = [max(s.peak for s in both[who]) for who in ("adaptr", "peft")]
        cells = f"{mine:.2f} | {other:.2f} | {other / mine:.1f} | {peaks[0]:.0f} | {peaks[1]:.0f}"
        found.append(f"| {name} | {strategy} | {cells} | {'1 of 22 layers x 22' if factor > 1 else ''} |")
    return found


def main(rounds: int) -> None:
    print("\n### Compose: four LoRAs r=16 on all linear layers, one thread\n")
    print("| shape | strategy | adaptr s | PEFT s | PEFT / adaptr | adaptr peak MB | PEFT peak MB | PEFT measured on |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name, shape in SHAPES.items():
        print("\n".join(rows(name, shape, rounds)), flush=True)


if __name__ == "__main__":
    verb = sys.argv[1] if len(sys.argv) > 1 else "1"
    if verb == "adaptr":
        adaptr_compose(*sys.argv[2:])
    elif verb == "peft":
        peft_compose(*sys.argv[2:])
    else:
        main(int(verb))
