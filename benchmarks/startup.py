"""Start-up: whole processes from the shell's point of view. `python benchmarks/startup.py [ROUNDS]`."""

from __future__ import annotations

import sys
from pathlib import Path

import measure
import synthetic


def main(rounds: int) -> None:
    place = measure.workplace()
    peft = synthetic.lora(place / "lora-small", synthetic.SMOLLM2)
    adapter = place / "small.safetensors"
    program = str(Path(sys.executable).with_name("adaptr"))
    measure.process([program, "convert", str(peft), "-o", str(adapter), "--force"])
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import click'": [sys.executable, "-c", "import click"],
        "adaptr --help": [program, "--help"],
        "adaptr methods": [program, "methods"],
        "adaptr inspect (adaptr file, 210 targets, both digests)": [program, "inspect", str(adapter)],
        "adaptr inspect (PEFT folder)": [program, "inspect", str(peft)],
        "adaptr convert (from PEFT)": [program, "convert", str(peft), "-o", str(adapter), "--force"],
        "adaptr convert (to PEFT)": [program, *f"convert {adapter} --to peft -o {place / 'peft'} --force".split()],
    }
    found = measure.interleave({name: (lambda c=c: measure.process(c)) for name, c in commands.items()}, rounds)
    print(measure.table("Start-up, whole processes", found, "python -c pass"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
