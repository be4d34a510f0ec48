"""Memory of a training step: a ladder beside the model against LoRA in it, and full fine-tuning, in one run.

`python benchmarks/side.py [ROUNDS]`: SmolLM2's shape with random weights, batch 4 x 128, fp32, AdamW, one thread, a
process each and in turn. "Kept": bytes that autograd keeps for the backward of one step, each storage once,
without parameters.
"Peak": of the process, above what it has once the model is there.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

import measure
import synthetic

#: Method, configuration.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full fine-tuning": ("", {}),
    "lora, all linear": ("lora", {"r": 16}),
    "ladder": ("ladder", {"reduction": 8}),
    "attention-fusion": ("attention-fusion", {}),
}
ROWS, LENGTH, STEPS = 4, 128, 3


def one(case: str, base: str) -> None:
    """The process that is measured; the first step does not count."""
    import torch
    from transformers import AutoModelForCausalLM

    import adaptr

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    ids = torch.randint(0, 49152, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    method, config = CASES[case]
    start, taken, kept = measure.peak(), [], 0
    session = adaptr.train(model, adaptr.create(model, method, **config)) if method else None
    learning = list(session.parameters()) if session else list(model.parameters())
    optimiser = torch.optim.AdamW(learning, lr=1e-3)
    for step in range(STEPS):
        began, held = time.process_time(), dict[int, int]()

        def pack(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(ids, labels=ids, use_cache=False).loss
        for parameter in model.parameters():
            held.pop(parameter.untyped_storage().data_ptr(), None)
        kept = sum(held.values())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step:
            taken.append(time.process_time() - began)
    said = {"work": statistics.median(taken), "kept": kept / 2**20, "peak": measure.peak() - start}
    print(json.dumps({**said, "trained": sum(p.numel() for p in learning)}))


def main(rounds: int) -> None:
    base = str(synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1))
    found: dict[str, list[measure.Sample]] = {case: [] for case in CASES}
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # what is freed is given back, so that peaks are of what lives
    for _ in range(rounds):
        for case in CASES:
            found[case].append(measure.process(measure.own("side.py", "one", case, base), threads=1))
    print("\n### A network beside the model: batch 4 x 128, fp32, AdamW, one thread\n")
    print("| method | trained | kept MB | of full | peak MB | of full | CPU s a step |\n|---|---|---|---|---|---|---|")
    medians = {
        case: {key: statistics.median(s.said[key] for s in samples) for key in ("trained", "kept", "peak", "work")}
        for case, samples in found.items()
    }
    full = medians["full fine-tuning"]
    for case, m in medians.items():
        shares = [f"{m[key]:.0f} | {m[key] / full[key]:.2f}" for key in ("kept", "peak")]
        print(f"| {case} | {m['trained']:,.0f} | {' | '.join(shares)} | {m['work']:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1)
