"""What `adaptr plan` says a training needs, against its peak: SmolLM2's shape, batch 4 x 128, fp32, AdamW, on a CPU.

`python benchmarks/planning.py [ROUNDS]`. Each training is a process of its own. Its peak is taken above what the
process has resident once torch, transformers and the model's class are imported, before the model is made.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import measure
import synthetic

#: Method ("" for full fine-tuning), configuration, targets, checkpointing.
CASES: dict[str, tuple[str, dict[str, Any], list[str] | None, bool]] = {
    "lora, attention": ("lora", {"r": 16}, ["attn.q", "attn.k", "attn.v", "attn.o"], False),
    "lora, all linear": ("lora", {"r": 16}, None, False),
    "dora, all linear": ("dora", {"r": 16}, None, False),
    "ia3": ("ia3", {}, None, False),
    "prompt": ("prompt", {}, None, False),
    "prefix": ("prefix", {}, None, False),
    "full fine-tuning": ("", {}, None, False),
    "lora, all linear, checkpointing": ("lora", {"r": 16}, None, True),
    "full fine-tuning, checkpointing": ("", {}, None, True),
}
ROWS, LENGTH = 4, 128
#: What glibc reads: from how many bytes on memory is asked of the system, and given back when it is freed.
THRESHOLD = "MALLOC_MMAP_THRESHOLD_"


def one(case: str, place: str) -> None:
    """The process that is measured: two steps, as an optimiser has its state from the second on."""
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    import adaptr

    method, config, targets, checkpointing = CASES[case]
    torch.nn.Linear(8, 8)(torch.randn(2, 8)).sum().backward()
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    baseline = resident()
    model = LlamaForCausalLM._from_config(AutoConfig.from_pretrained(place), dtype=torch.float32).train()
    parameters = list(model.parameters())
    if method:
        parameters = list(adaptr.train(model, adaptr.create(model, method, targets, **config)).parameters())
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    ids = torch.randint(0, 49152, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    print(json.dumps({"peak": measure.peak() - baseline, "baseline": baseline}))


def resident() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def said(case: str, place: str) -> Any:
    from adaptr.planning.estimate import Setting, candidate
    from adaptr.planning.foundation import foundation

    method, config, targets, checkpointing = CASES[case]
    found = candidate(foundation(place), method, config=config, targets=targets)
    return found.estimate(Setting(ROWS, LENGTH, "fp32", checkpointing=checkpointing, device="cpu"))


def main(rounds: int) -> None:
    place = str(synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1))
    print(f"\n### Memory of a training, said and measured: batch {ROWS} x {LENGTH}, fp32, AdamW, CPU, one thread\n")
    print("| training | trained | said MB | tensors MB | said / that | process MB | said / that |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        found = said(case, place)
        mine = found.memory.peak / 2**20
        tensors, process = (peak(case, place, rounds, given) for given in (True, False))
        ratios = f"{tensors:.0f} | {mine / tensors:.2f} | {process:.0f} | {mine / process:.2f}"
        print(f"| {case} | {found.trained:,} | {mine:.0f} | {ratios} |", flush=True)


def peak(case: str, place: str, rounds: int, given_back: bool) -> float:
    """Median of the peaks, MB. `given_back`: with glibc told to give back what is freed, so that only tensors count."""
    os.environ.pop(THRESHOLD, None)
    if given_back:
        os.environ[THRESHOLD] = "65536"
    samples = [measure.process(measure.own("planning.py", case, place), threads=1) for _ in range(rounds)]
    return statistics.median(sample.said["peak"] for sample in samples)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        one(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
