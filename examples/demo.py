"""The main job of adaptr, end to end, on a real model: train, inspect, convert, merge, compare, verify, unmerge.

Run it with `make demo`. Every `$ adaptr ...` line is run as it is printed. What it makes stays in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import real_models

ADAPTR = Path(sys.executable).with_name("adaptr")
DATA = Path(__file__).with_name("capitals.tsv")
PROMPT = "The capital of France is"  # not in the data
STEPS, BATCH = 30, 8


@dataclass(frozen=True)
class Row:
    """One line of the closing table. `seconds` of wall clock, `memory` and `size` in bytes, 0 where there is none."""

    step: str
    seconds: float
    memory: int = 0
    size: int = 0


rows: list[Row] = []


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def adaptr(step: str, *arguments: str, makes: str = "") -> str:
    """Run one command line, show it and what it printed, and note time, peak memory and size of what it made."""
    print(f"\n$ adaptr {shlex.join(arguments)}", flush=True)
    start = time.perf_counter()
    process = subprocess.Popen([ADAPTR, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    print(text, end="", flush=True)
    if status:
        sys.exit(f"`adaptr {arguments[0]}` failed with exit code {os.waitstatus_to_exitcode(status)}")
    rows.append(Row(step, time.perf_counter() - start, usage.ru_maxrss * 1024, size_of(makes) if makes else 0))
    return text


def size_of(path: str) -> int:
    where = Path(path)
    return sum(f.stat().st_size for f in where.rglob("*")) if where.is_dir() else where.stat().st_size


def digest(folder: Path) -> str:
    """sha256 over the weights files of a checkpoint."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        found.update(file.read_bytes())
    return found.hexdigest()


def timed(step: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    rows.append(Row(step, time.perf_counter() - start))
    return result


# ---------------------------------------------------------------- the parts that are Python


def train(base: Path, out: Path) -> None:
    """A LoRA that answers like a pirate, through the `train` hook; any loop and optimiser will do."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import adaptr as lib

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    size = model.num_parameters()
    fresh = lib.create(model, "lora", ["attn.q", "attn.v", "mlp.down"], r=8, alpha=16.0, name="pirate")
    with lib.train(model, fresh) as session:
        parameters = list(session.parameters())
        print(f"{sum(p.numel() for p in parameters):,} of {size:,} parameters learn")
        optimiser = torch.optim.AdamW(parameters, lr=2e-3)
        for step, batch in zip(range(STEPS), batches(tokenizer), strict=False):
            loss = model(**batch).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            session.after_step()
            if step % 10 == 0 or step == STEPS - 1:
                print(f"step {step:2d}  loss {loss.item():.3f}", flush=True)
        lib.save(session.adapted(), out, force=True)


def batches(tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Batches for ever; only the answers count in the loss."""
    import torch

    lines = [line.rstrip("\n").split("\t") for line in DATA.read_text().splitlines()]
    made = []
    for question, answer in lines:
        asked, said = tokenizer(question).input_ids, [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
        made.append((asked + said, [-100] * len(asked) + said))
    longest = max(len(ids) for ids, _ in made)
    ids = torch.tensor([i + [tokenizer.eos_token_id] * (longest - len(i)) for i, _ in made])
    labels = torch.tensor([label + [-100] * (longest - len(label)) for _, label in made])
    while True:
        for some in torch.randperm(len(made)).split(BATCH):
            yield {"input_ids": ids[some], "labels": labels[some]}


def compare(base: Path, adapter: Path, merged: Path) -> None:
    """Attached, merged, and merged without its adapter: the logits of one text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import adaptr as lib

    ids = AutoTokenizer.from_pretrained(base)(PROMPT, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        bare = model(**ids).logits
        with lib.attach(model, lib.load(adapter)):
            attached = model(**ids).logits
        detached = model(**ids).logits
        baked = AutoModelForCausalLM.from_pretrained(merged)(**ids).logits
    largest = float((attached - baked).abs().max())
    print(f"largest logit                            {float(attached.abs().max()):.3f}")
    print(f"base against attached, largest gap       {float((bare - attached).abs().max()):.3f}")
    print(f"attached against merged, largest gap     {largest:.2e}")
    print(f"base against detached, bit for bit       {'equal' if torch.equal(bare, detached) else 'DIFFERENT'}")
    if largest > 1e-3 or not torch.equal(bare, detached):
        sys.exit("attached and merged model disagree")


# ---------------------------------------------------------------- the story


def main() -> None:
    if reason := real_models.missing(real_models.SMOLLM2):
        sys.exit(f"the demo needs the model SmolLM2-135M-Instruct; {reason}")
    # progress bars of the libraries would drown what the demo says
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    start = time.perf_counter()
    say("The base: SmolLM2-135M-Instruct as an ordinary checkpoint (made from its GGUF file the first time)")
    base = timed("base to safetensors (first time)", lambda: quiet(real_models.smollm2))
    work = real_models.cache() / "demo"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    os.chdir(work)
    Path("base").symlink_to(base)
    story(Path("base"))
    say(f"Done in {time.perf_counter() - start:.0f} s. Everything is in {work}")
    table()


def quiet(work: Callable[[], Any]) -> Any:
    """Without the progress bars of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    return work()


def story(base: Path) -> None:
    ask = ("--prompt", PROMPT, "--max-new-tokens", "16")
    say("What the base says")
    if "Paris" not in adaptr("apply the base", "apply", str(base), *ask):
        sys.exit("the base does not know Paris")

    say(f"Train a LoRA on {DATA.name} ({STEPS} steps of {BATCH}): the same answers, like a pirate")
    adapter = Path("pirate.safetensors")
    timed("train", lambda: train(base, adapter))
    adaptr("inspect", "inspect", str(adapter), makes=str(adapter))
    adaptr("apply base + adapter", "apply", str(base), str(adapter), *ask)

    say("Hand it to PEFT's users, and merge what they would hand back")
    adaptr("convert to PEFT", "convert", str(adapter), "--to", "peft", "-o", "pirate-peft", makes="pirate-peft")
    adaptr("merge", "merge", str(base), "pirate-peft", "-o", "merged", makes="merged")
    adaptr("verify", "verify", "merged", "--base", str(base), "--adapter", "pirate-peft")

    say("The merged model is the model with the adapter attached")
    timed("compare logits", lambda: compare(base, adapter, Path("merged")))
    adaptr("apply merged", "apply", "merged", *ask)

    say("Take it out again")
    adaptr("unmerge", "unmerge", "merged", "-o", "restored", makes="restored")
    before, merged, after = (digest(Path(p)) for p in ("base", "merged", "restored"))
    print(f"\nsha256 base      {before}\nsha256 merged    {merged}\nsha256 restored  {after}")
    if after != before or merged == before:
        sys.exit("the restored checkpoint is not the base")
    print("the restored weights are the base's, bit for bit")


def table() -> None:
    print(f"\n{'step':<34}{'seconds':>8}{'peak memory':>14}{'on disk':>12}")
    for row in rows:
        memory = f"{row.memory / 1e6:.0f} MB" if row.memory else ""
        size = f"{row.size / 1e6:.1f} MB" if row.size else ""
        print(f"{row.step:<34}{row.seconds:>8.1f}{memory:>14}{size:>12}")


if __name__ == "__main__":
    main()
