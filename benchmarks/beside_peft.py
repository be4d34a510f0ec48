"""Methods against PEFT's own layers, on the same tensors: a forward without gradients, and a step of training.

`python benchmarks/beside_peft.py [ROUNDS] [NAME...]`: layers of SmolLM2's shape, batch 4 x 128, fp32, one thread. Both
models stand in one process and take turns, so that what else the machine does meets both; what is said is the median of
the ratios to PEFT's in the same round, in the processor's time, and that of the bare base, which nobody can be below by
more than a little. Peak memory is of two processes of three steps each.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from operator import truediv
from pathlib import Path
from typing import Any

import measure

#: Configurations, where not the method's own; adalora weighs and does not prune yet.
CASES: dict[str, dict[str, Any]] = {
    "lora": {"r": 16},
    "dora": {"r": 16},
    "loha": {"r": 16},
    "lokr": {"r": 16},
    "ia3": {},
    "oft": {},
    "boft": {},
    "hra": {},
    "adalora": {"steps": 1000, "tinit": 100},
    "vera": {},
    "fourierft": {},
}
WHO = ("adaptr", "peft")
#: Of SmolLM2's 30 blocks, which are all alike, and without its head, which costs both the same.
LAYERS = 4
ROWS, LENGTH, ROUNDS = 4, 128, 5


def made(who: str, name: str, folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """(a forward without gradients, a step of training) of a model with a fresh adapter on it, or of a bare one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from with_peft import as_peft

    import adaptr

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=LAYERS, num_attention_heads=9,
            num_key_value_heads=3, vocab_size=1000,
        )
    )  # fmt: skip
    ids = torch.randint(0, 1000, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    adapter = adaptr.create(model, name, **CASES[name])
    penalty: Callable[[], Any] = lambda: 0.0
    schedule: Callable[[], None] = lambda: None
    if who == "adaptr":
        session = adaptr.train(model.train(), adapter)
        penalty, schedule = session.penalty, session.after_step
    elif who == "peft":
        model = as_peft(model, adapter, folder).train()
        schedule = functools.partial(getattr(model.base_model, "update_and_allocate", lambda _: None), 1)  # AdaLoRA's
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss  # PEFT's AdaLoRA adds its penalty to it
        (loss + penalty()).backward()
        optimiser.step()
        schedule()
        optimiser.zero_grad()

    def forward() -> None:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)

    return forward, step


def timed(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def both(name: str, rounds: int) -> None:
    """The process that is measured: ratios to PEFT, and PEFT's milliseconds."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = {who: made(who, name, Path(folder)) for who in (*WHO, "bare")}
    steps = {who: step for who, (_, step) in runs.items() if who != "bare"}
    forwards = {who: forward for who, (forward, _) in runs.items()}
    print(json.dumps({"forward": compared(forwards, rounds), "step": compared(steps, rounds)}))


def compared(runs: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The median of each one's ratios to PEFT in the same round; `ms` of PEFT."""
    times: dict[str, list[float]] = {who: [] for who in runs}
    for turn in range(rounds + 1):
        for who in runs if turn % 2 else reversed(runs):  # the first does not count
            times[who].append(timed(runs[who]))
    theirs = times["peft"][1:]
    ratios = {who: statistics.median(map(truediv, times[who][1:], theirs)) for who in runs if who != "peft"}
    return {**ratios, "ms": 1e3 * statistics.median(theirs)}


def alone(who: str, name: str) -> None:
    """The peak of a process that trains three steps; both have imported the same."""
    import peft  # noqa: F401
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _, step = made(who, name, Path(folder))
        for _ in range(3):
            step()
    print(json.dumps({"peak": measure.peak()}))


def main(rounds: int, names: list[str]) -> None:
    print(f"\n### Methods beside PEFT: {LAYERS} blocks of SmolLM2's shape, batch {ROWS} x {LENGTH}, fp32, one thread\n")
    print("| method | forward | bare | PEFT ms | step | PEFT ms | peak MB | PEFT |\n|---|---|---|---|---|---|---|---|")
    for name in names or CASES:
        said: Any = measure.process(measure.own("beside_peft.py", "both", name, str(rounds)), threads=1).said
        peaks = [
            measure.process(measure.own("beside_peft.py", "alone", who, name), threads=1).said["peak"] for who in WHO
        ]
        forward, step = said["forward"], said["step"]
        cells = [f"{forward['adaptr']:.2f}", f"{forward['bare']:.2f}", f"{forward['ms']:.0f}"]
        cells += [f"{step['adaptr']:.2f}", f"{step['ms']:.0f}", *(f"{peak:.0f}" for peak in peaks)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    words = sys.argv[1:]
    if words[:1] == ["both"]:
        both(words[1], int(words[2]))
    elif words[:1] == ["alone"]:
        alone(words[1], words[2])
    else:
        counted = [int(word) for word in words if word.isdigit()]
        main(counted[0] if counted else ROUNDS, [word for word in words if not word.isdigit()])
