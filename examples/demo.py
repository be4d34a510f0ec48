"""The main job of adaptr, end to end, on a real model: train, inspect, convert, merge, compare, verify, unmerge.

Run it with `make demo`. Every `$ adaptr ...` line is run as it is printed; what is Python is in `parts.py`. What it
makes stays in the cache folder. This process stays small, so that the peak memory of a step is the step's own.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import real_models

ADAPTR = str(Path(sys.executable).with_name("adaptr"))
PARTS = str(Path(__file__).with_name("parts.py"))
DATA = Path(__file__).parent
ASK = ("--prompt", "The capital of France is", "--max-new-tokens", "9")
LEARN, MEASURE = ("--data", "capitals.jsonl"), ("--valid", "capitals-held-out.jsonl")
TRAIN = ("train", "base", *LEARN, *MEASURE, "--steps", "24", "--rate", "2e-3", "--samples", "0")


@dataclass(frozen=True)
class Row:
    """One line of the closing table: seconds of wall clock, bytes of memory, and of what was made."""

    step: str
    seconds: float
    memory: int
    size: int


rows: list[Row] = []


def run(step: str, command: list[str], makes: str = "") -> str:
    """Run a command, show what it prints, and note its time, its peak memory and the size of what it makes."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            text += line
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{step} failed with exit code {process.returncode}")
    rows.append(Row(step, time.perf_counter() - start, usage.ru_maxrss * 1024, size_of(Path(makes)) if makes else 0))
    return text


def adaptr(step: str, *arguments: str, makes: str = "") -> str:
    print(f"\n$ adaptr {shlex.join(arguments)}", flush=True)
    return run(step, [ADAPTR, *arguments], makes)


def python(step: str, *arguments: str, makes: str = "") -> str:
    return run(step, [sys.executable, PARTS, *arguments], makes)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def size_of(where: Path) -> int:
    return sum(f.stat().st_size for f in where.rglob("*")) if where.is_dir() else where.stat().st_size


def digest(folder: str) -> str:
    """sha256 over the weights of a checkpoint."""
    found = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def main() -> None:
    if reason := real_models.missing(real_models.SMOLLM2):
        sys.exit(f"the demo needs the model SmolLM2-135M-Instruct; {reason}")
    start = time.perf_counter()
    say("The base: SmolLM2-135M-Instruct, from its GGUF file to an ordinary checkpoint, once")
    python("base, made or found", "base")
    work = real_models.cache() / "demo"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "base").symlink_to(real_models.smollm2())
    for file in (LEARN[1], MEASURE[1]):
        shutil.copy(DATA / file, work)
    os.chdir(work)
    story()
    say(f"Done in {time.perf_counter() - start:.0f} s; everything is in {work}")
    table()


def story() -> None:
    say("What the base says")
    if "Paris" not in adaptr("apply: base", "apply", "base", *ASK):
        sys.exit("the base does not know Paris")

    say("Train a LoRA on 16 other capitals, to answer like a pirate, and measure it on 12 more")
    adaptr("train", *TRAIN, "-o", "pirate.safetensors", makes="pirate.safetensors")
    adaptr("inspect", "inspect", "pirate.safetensors")
    if "arr" not in adaptr("apply: base + adapter", "apply", "base", "pirate.safetensors", *ASK):
        sys.exit("the adapter changed nothing that shows")

    say("Hand it to PEFT's users, and merge what they would hand back")
    adaptr("convert", "convert", "pirate.safetensors", "--to", "peft", "-o", "pirate-peft", makes="pirate-peft")
    adaptr("merge", "merge", "base", "pirate-peft", "-o", "merged", makes="merged")
    adaptr("verify", "verify", "merged", "--base", "base", "--adapter", "pirate-peft")

    say("The merged model is the model with the adapter attached")
    python("compare", "compare", "base", "pirate-peft", "merged")
    adaptr("apply: merged", "apply", "merged", *ASK)

    say("Take it out again")
    adaptr("unmerge", "unmerge", "merged", "-o", "restored", makes="restored")
    before, merged, after = map(digest, ("base", "merged", "restored"))
    print(f"\nsha256 base      {before}\nsha256 merged    {merged}\nsha256 restored  {after}")
    if after != before or merged == before:
        sys.exit("the restored weights are not the base's")
    print("the restored weights are the base's, bit for bit")


def table() -> None:
    print(f"\n{'step':<24}{'seconds':>8}{'peak memory':>14}{'on disk':>12}")
    for row in rows:
        size = f"{row.size / 1e6:.1f} MB" if row.size else ""
        print(f"{row.step:<24}{row.seconds:>8.1f}{row.memory / 1e6:>11.0f} MB{size:>12}")


if __name__ == "__main__":
    main()
