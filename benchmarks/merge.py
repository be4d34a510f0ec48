"""Merge a rank-16 LoRA on all linear layers into 1.1 B parameters (bf16, 5 shards, 2.2 GB): adaptr, cp and PEFT in
turn.

`python benchmarks/merge.py [ROUNDS]`. Each is a process of its own, adaptr's that of the command line; "work" leaves
out imports, "CPU" is the processor time of all threads. PEFT at its best: bf16 model loaded with low memory,
merge_and_unload, save_pretrained in shards of the same size.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time

import measure
import synthetic


def adaptr_merge(base: str, adapter: str, out: str, receipt: str) -> None:
    """The process that is measured."""
    import torch  # noqa: F401 - imports are not the work

    import adaptr.cli.commands.merge
    import adaptr.merging.merge  # noqa: F401
    from adaptr.__main__ import leave, main

    started, spent = time.perf_counter(), time.process_time()
    code = main(["merge", base, adapter, "-o", out, "--receipt" if receipt == "receipt" else "--no-receipt", "--quiet"])
    took = {"work": time.perf_counter() - started, "cpu": time.process_time() - spent}
    print(json.dumps({**took, "peak": measure.peak()}))
    leave(code)


def peft_merge(base: str, adapter: str, out: str) -> None:
    """The same with the best-known library."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, device_map="cpu", low_cpu_mem_usage=True)
    merged = PeftModel.from_pretrained(model, adapter, low_cpu_mem_usage=True).merge_and_unload()
    merged.save_pretrained(out, max_shard_size="450MB")
    print(json.dumps({"work": time.perf_counter() - started, "peak": measure.peak()}))


def main(rounds: int) -> None:
    place = measure.workplace()
    base = synthetic.llama(place / "base")
    every, qv = synthetic.lora(place / "lora"), synthetic.lora(place / "lora-qv", only=("q_proj", "v_proj"))
    out = place / "out"
    commands = {
        "cp of the base": ["cp", "-r", str(base), str(out)],
        "adaptr, no receipt": measure.own("merge.py", "adaptr", str(base), str(every), str(out), "none"),
        "adaptr, with receipt": measure.own("merge.py", "adaptr", str(base), str(every), str(out), "receipt"),
        "adaptr, q and v only, no receipt": measure.own("merge.py", "adaptr", str(base), str(qv), str(out), "none"),
        "PEFT": measure.own("merge.py", "peft", str(base), str(every), str(out)),
    }
    found: dict[str, list[measure.Sample]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            sample = measure.process(command)
            if number or name == "PEFT":  # the first round warms the page cache; PEFT's own is long enough to keep
                found[name].append(sample)
    print(report(found))


def report(found: dict[str, list[measure.Sample]]) -> str:
    cp = statistics.median(s.seconds for s in found["cp of the base"])
    lines = [
        "\n### Merge: LoRA r=16 on all 154 linear layers of 1.1 B parameters\n",
        "| what | whole process s | work s | work / cp | CPU s | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, samples in found.items():
        fields = ("seconds", "work", "cpu")
        whole, work, cpu = (statistics.median(getattr(s, field) for s in samples) for field in fields)
        peak = max(s.said.get("peak", 0.0) for s in samples)
        lines.append(f"| {name} | {whole:.2f} | {work:.2f} | {work / cp:.2f} | {cpu:.2f} | {peak:.0f} |")
    peft = statistics.median(s.seconds for s in found["PEFT"])
    ours = statistics.median(s.seconds for s in found["adaptr, with receipt"])
    lines.append(f"\nWhole process, PEFT / adaptr with receipt: {peft / ours:.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    verb = sys.argv[1] if len(sys.argv) > 1 else "3"
    if verb == "adaptr":
        adaptr_merge(*sys.argv[2:])
    elif verb == "peft":
        peft_merge(*sys.argv[2:])
    else:
        main(int(verb))
