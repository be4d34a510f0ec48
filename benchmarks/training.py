"""A training step on SmolLM2's shape (batch 4 x 128, fp32, AdamW, LoRA r=16 on all linear layers), a process each.

`python benchmarks/training.py [ROUNDS]`, one thread: adaptr against PEFT, time of the median step and peak memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import measure
import synthetic


def step_of(who: str, method: str, place: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    if who == "adaptr":
        import adaptr

        session = adaptr.train(model, adaptr.create(model, method, r=16, alpha=32))
        parameters = list(session.parameters())
    else:
        from peft import LoraConfig, get_peft_model

        names = [n.rpartition(".")[2] for n in synthetic.SMOLLM2.linears()]
        config = LoraConfig(r=16, lora_alpha=32, target_modules=names, use_dora=method == "dora", task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
        parameters = [p for p in model.parameters() if p.requires_grad]
    model.train()
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    ids = torch.randint(0, 49152, (4, 128), generator=torch.Generator().manual_seed(0))

    def step() -> float:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    return step


def one(who: str, method: str, place: str) -> None:
    """The process that is measured: two warm-up steps, five that count."""
    step = step_of(who, method, place)
    seconds = []
    for number in range(7):
        started = time.perf_counter()
        loss = step()
        if number >= 2:
            seconds.append(time.perf_counter() - started)
    print(json.dumps({"work": statistics.median(seconds), "loss": loss, "peak": measure.peak()}))


def main(rounds: int) -> None:
    place = str(synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1))
    cases = [("adaptr", "lora"), ("peft", "lora"), ("adaptr", "dora"), ("peft", "dora")]
    found: dict[tuple[str, str], list[measure.Sample]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            found[case].append(measure.process(measure.own("training.py", *case, place), threads=1))
    print("\n### Training step, LoRA and DoRA r=16 on 210 linear layers, batch 4 x 128, fp32, one thread\n")
    print("| what | s a step | ratio to PEFT | peak MB | ratio to PEFT | loss |\n|---|---|---|---|---|---|")
    for (who, method), samples in found.items():
        time_, memory = _median(samples, "work"), _median(samples, "peak")
        peft = found["peft", method]
        ratios = time_ / _median(peft, "work"), memory / _median(peft, "peak")
        loss = samples[0].said["loss"]
        print(f"| {who} {method} | {time_:.2f} | {ratios[0]:.2f} | {memory:.0f} | {ratios[1]:.2f} | {loss:.3f} |")


def _median(samples: list[measure.Sample], key: str) -> float:
    return statistics.median(s.said[key] for s in samples)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        one(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
