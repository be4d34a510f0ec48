"""Diff of two adapters, extraction from a checkpoint pair, of 1.1 B parameters. Arguments: [ROUNDS]."""

from __future__ import annotations

import statistics
import sys

import measure
import synthetic


def main(rounds: int) -> None:
    place = measure.workplace()
    base = synthetic.llama(place / "base")
    one, other = (str(synthetic.lora(place / f"lora-2048-{i}", seed=10 + i)) for i in range(2))
    tuned = place / "tuned"
    program = [sys.executable, "-m", "adaptr"]
    if not (tuned / "config.json").exists():
        measure.process([*program, "merge", str(base), one, "-o", str(tuned), "--no-receipt", "--force"])
    extract = [*program, "extract", str(base), str(tuned), "--rank", "16", "-o", str(place / "taken.safetensors")]
    commands = {
        "diff of two adapters, 154 targets": [sys.executable, "-c", _DIFF, one, other],
        "extract at rank 16, 154 targets": [*extract, "--force", "--json"],
    }
    print("\n### Diff and extract, r=16 on all linear layers of 1.1 B parameters\n")
    print("| what | whole process s | peak MB | split |\n|---|---|---|---|")
    for name, command in commands.items():
        samples = [measure.process(command) for _ in range(rounds)]
        seconds = statistics.median(s.seconds for s in samples)
        said = samples[-1].said
        split = ", ".join(f"{name} {said[name]:.1f} s" for name in ("cpu", "reading", "svd", "seconds") if name in said)
        print(f"| {name} | {seconds:.2f} | {max(s.peak for s in samples):.0f} | {split} |", flush=True)


_DIFF = """
import json, sys, time
sys.path.insert(0, "benchmarks")
import adaptr, measure
adaptr.diff(sys.argv[1], sys.argv[2])
print(json.dumps({"peak": measure.peak(), "cpu": time.process_time()}))
"""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
