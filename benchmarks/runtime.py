"""Stacks and gates on SmolLM2's shape (30 layers, 210 linear layers, fp32): adaptr, PEFT and the bare model.

`python benchmarks/runtime.py [ROUNDS]`, one thread. A stack has four LoRAs of rank 16 on all linear layers, a gate
two or four of them.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import measure
import synthetic
import torch
from live import base, decoder
from peft import PeftModel, XLoraConfig, get_peft_model

import adaptr

NAMES = ("a", "b", "c", "d")
WEIGHTS = {"a": 0.7, "b": 0.5, "c": 0.4, "d": 0.3}
CLASSIFIER = {"layerwise": True, "depth": 1}


def adapters() -> dict[str, Path]:
    """Four PEFT folders of the same shape."""
    folder = measure.workplace()
    return {n: synthetic.lora(folder / f"lora-small-{n}", synthetic.SMOLLM2, seed=i) for i, n in enumerate(NAMES, 11)}


def stacks(place: Path, folders: dict[str, Path]) -> dict[str, Any]:
    """The bare model, and each library's four adapters at work together."""
    ours = base(place)
    adaptr.stack(ours, {name: (adaptr.load(folder), WEIGHTS[name]) for name, folder in folders.items()})
    theirs = _peft(base(place), folders)
    for module in theirs.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling.update({name: 2 * weight for name, weight in WEIGHTS.items()})
    return {"bare": base(place), "adaptr, 4 LoRAs": ours, "PEFT, 4 LoRAs": theirs}


def _peft(model: Any, folders: dict[str, Path]) -> Any:
    first, *others = folders
    theirs = PeftModel.from_pretrained(model, folders[first], adapter_name=first)
    for name in others:
        theirs.load_adapter(folders[name], adapter_name=name)
    theirs.base_model.set_adapter(list(folders))
    return theirs.eval()


def gates(place: Path, folders: dict[str, Path], count: int) -> dict[str, Any]:
    """X-LoRA of each library over the first experts, with the same classifier."""
    chosen = {name: folders[name] for name in NAMES[:count]}
    ours = base(place)
    children = {name: adaptr.load(folder) for name, folder in chosen.items()}
    gate = adaptr.create(ours, "xlora", children=children, **CLASSIFIER)
    adaptr.attach(ours, gate)
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=synthetic.SMOLLM2.hidden,
        adapters={str(i): str(folder) for i, folder in enumerate(chosen.values())},
        layerwise_scalings=True,
        xlora_depth=1,
    )
    model = base(place)
    model.config.use_cache = False
    theirs = get_peft_model(model, config).eval()
    last = theirs.base_model.internal_xlora_classifier.layers[-1]
    last.weight.data, last.bias.data = gate.tensors[":W"], gate.tensors[":b"]
    return {f"adaptr, {count} experts": ours, f"PEFT, {count} experts": theirs}


def switching(place: Path, models: dict[str, Any], folders: dict[str, Path], one: torch.Tensor, rounds: int) -> str:
    """From one active adapter to another: the call, and what the first token costs more than the next."""
    stack = adaptr.stack(base(place), {name: adaptr.load(folder) for name, folder in folders.items()})
    theirs = one_of(models, "PEFT")
    rows = {
        "adaptr `stack.only`": _switched(stack.only, stack.model, one, rounds),
        "PEFT `set_adapter`": _switched(theirs.set_adapter, theirs, one, rounds),
    }
    lines = [
        "\n### Switching the active adapter of four, 210 layers\n",
        "| what | call ms | first token, ms more |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {name} | {call:.2f} | {more:.1f} |" for name, (call, more) in rows.items())])


def one_of(models: dict[str, Any], word: str) -> Any:
    return next(model for name, model in models.items() if word in name)


def _switched(choose: Any, model: Any, one: torch.Tensor, rounds: int) -> tuple[float, float]:
    calls, first, later = [], [], []
    for i in range(rounds + len(NAMES)):
        started = time.perf_counter()
        choose(NAMES[i % len(NAMES)])
        times = [time.perf_counter() - started]
        for _ in range(2):
            started = time.perf_counter()
            model(one)
            times.append(time.perf_counter() - started)
        if i >= len(NAMES):
            for found, seconds in zip((calls, first, later), times, strict=True):
                found.append(1e3 * seconds)
    return statistics.median(calls), statistics.median(first) - statistics.median(later)


def difference(models: dict[str, Any], ids: torch.Tensor) -> float:
    """The largest difference of the logits between the two libraries."""
    return float((one_of(models, "adaptr")(ids).logits - one_of(models, "PEFT")(ids).logits).abs().max())


def main(rounds: int) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1)
    folders = adapters()
    ids, one = torch.randint(0, 49152, (1, 128)), torch.randint(0, 49152, (1, 1))
    every = stacks(place, folders)
    with torch.inference_mode():
        print(f"\nlargest difference of the logits, four LoRAs: {difference(every, ids):.1e}")
        prefill = {name: (lambda m=m: m(ids)) for name, m in every.items()}
        print(measure.table("Four LoRAs r=16: prefill of 128 tokens", measure.interleave(prefill, rounds), "bare"))
        steps = {name: decoder(m, ids, one) for name, m in every.items()}
        print(measure.table("Four LoRAs r=16: decode of one token", measure.interleave(steps, 4 * rounds, 3), "bare"))
        print(switching(place, every, folders, one, 3 * rounds))
    bare = every["bare"]
    del every, prefill, steps
    routed: dict[str, Any] = {"bare": bare}
    for count in (2, 4):
        pair = gates(place, folders, count)
        with torch.inference_mode():
            print(f"\nlargest difference of the logits, {count} experts: {difference(pair, ids):.1e}")
        routed |= pair
    with torch.inference_mode():
        prefill = {name: (lambda m=m: m(ids)) for name, m in routed.items()}
        print(
            measure.table("X-LoRA, experts of r=16: prefill of 128 tokens", measure.interleave(prefill, rounds), "bare")
        )
        steps = {name: decoder(m, ids, one) for name, m in routed.items() if "PEFT" not in name}
        print(
            measure.table(
                "X-LoRA: decode of one token (PEFT has no cache)", measure.interleave(steps, 3 * rounds, 3), "bare"
            )
        )
    print(f"\npeak memory {measure.peak():.0f} MB, all models together")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
