"""`adaptr train`'s trainer against PEFT with transformers' `Trainer`: the same tensors at the start, data, order and
optimiser. Batch 4 x 128, fp32, AdamW, rank 16, one thread, a process each.

`python benchmarks/training.py [ROUNDS]`: processor time of the median step, and peak memory, on SmolLM2's shape.
`python benchmarks/training.py curves [STEPS]`: the largest distance of the losses of any step, with batches of 4 x 32.
Behind either a model's folder and a file of records: those instead of random weights and tokens.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import synthetic

ATTENTION = ["attn.q", "attn.k", "attn.v", "attn.o"]
#: Method, configuration, targets.
CASES: dict[str, tuple[str, dict[str, Any], list[str] | None]] = {
    "lora, attention": ("lora", {"r": 16, "alpha": 32.0}, ATTENTION),
    "lora, all linear": ("lora", {"r": 16, "alpha": 32.0}, None),
    "dora, all linear": ("dora", {"r": 16, "alpha": 32.0}, None),
    "ia3": ("ia3", {}, None),
    "prompt": ("prompt", {}, None),
    "prefix": ("prefix", {"position_offset": "shift"}, None),  # as PEFT trains it
}
CURVES = ("lora, all linear", "dora, all linear", "ia3")
WHO = ("adaptr", "peft")
ROWS, LENGTH, SHORT, STEPS = 4, 128, 32, 7
RANDOM = "-"


def one(who: str, case: str, steps: int, length: int, base: str, data: str) -> None:
    """The process that is measured; the first two steps don't count."""
    import torch
    from transformers import AutoModelForCausalLM, TrainerCallback

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(who, case, steps, model, rows(base, data, length), Path(folder))

        class Clock(TrainerCallback):  # type: ignore[misc]
            at: list[float] = []

            def on_step_end(self, *_: Any, **__: Any) -> None:
                self.at.append(time.process_time())

        trainer.add_callback(Clock())
        trainer.train()
    at = Clock.at
    taken = [after - before for before, after in itertools.pairwise(at[1:])]
    losses = [point["loss"] for point in trainer.state.log_history if "loss" in point]
    print(json.dumps({"work": statistics.median(taken), "losses": losses, "peak": measure.peak()}))


def rows(base: str, data: str, length: int) -> list[dict[str, Any]]:
    """Ids and labels: of records, or drawn."""
    import torch

    if data == RANDOM:
        ids = torch.randint(0, 49152, (64, length), generator=torch.Generator().manual_seed(0)).tolist()
        return [{"input_ids": row, "labels": row} for row in ids]
    from adaptr import data as records
    from adaptr import tasks

    found, tools = records.read(data), tasks.tools(Path(base))
    encoded = tasks.by_name("lm").encode(found.records, tools, tasks.Limits(length))
    return [dict(one.example) for one in encoded]


def trainer_of(who: str, case: str, steps: int, model: Any, found: list[dict[str, Any]], folder: Path) -> Any:
    from transformers import PrinterCallback, Trainer
    from with_peft import as_peft

    import adaptr
    from adaptr import tasks
    from adaptr.training.arguments import arguments
    from adaptr.training.fields import recipe
    from adaptr.training.precision import Machine

    method, config, targets = CASES[case]
    said = recipe(base="-", data="-", batch=ROWS, steps=steps, rate=1e-3, save_every=0, schedule="constant")
    lm, tools = tasks.by_name("lm"), tasks.Tools(None)
    given: dict[str, Any] = {"data_collator": lambda some: dict(lm.collate(some, tools)), "train_dataset": found}
    adapter = adaptr.create(model, method, targets, **config)
    args = arguments(said, "plain", Machine("cpu", "fp32"), folder)
    if who == "adaptr":
        from adaptr.training.trainers import Plain

        made = Plain(model, lambda it: adaptr.train(it, adapter), args=args, **given)
    else:
        made = Trainer(model=as_peft(model, adapter, folder), args=args, **given)
    made.remove_callback(PrinterCallback)
    return made


def measured(
    cases: Any, steps: int, length: int, rounds: int, base: str, data: str
) -> dict[tuple[str, str], list[measure.Sample]]:
    """In turn, so that what else the machine does meets all alike."""
    found: dict[tuple[str, str], list[measure.Sample]] = {(case, who): [] for case in cases for who in WHO}
    for _ in range(rounds):
        for case, who in found:
            command = measure.own("training.py", "one", who, case, str(steps), str(length), base, data)
            found[case, who].append(measure.process(command, threads=1))
    return found


def main(rounds: int, base: str, data: str) -> None:
    found = measured(CASES, STEPS, LENGTH, rounds, base, data)
    print("\n### Training, batch 4 x 128, fp32, AdamW, rank 16, one thread: adaptr, and PEFT with `Trainer`\n")
    print("| method | CPU s a step | PEFT | ratio | peak MB | PEFT | ratio | losses apart |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        cells = []
        for key, digits in (("work", 2), ("peak", 0)):
            ours, theirs = (statistics.median(s.said[key] for s in found[case, who]) for who in WHO)
            cells += [f"{ours:.{digits}f}", f"{theirs:.{digits}f}", f"{ours / theirs:.2f}"]
        print(f"| {case} | {' | '.join(cells)} | {_apart(found, case):.1e} |")


def curves(steps: int, base: str, data: str) -> None:
    found = measured(CURVES, steps, SHORT, 1, base, data)
    print(f"\n### Losses of {steps} steps, adaptr against PEFT\n")
    print("| method | first | last | largest distance |\n|---|---|---|---|")
    for case in CURVES:
        losses: Any = found[case, "adaptr"][0].said["losses"]
        print(f"| {case} | {losses[0]:.4f} | {losses[-1]:.4f} | {_apart(found, case):.1e} |")


def _apart(found: dict[tuple[str, str], list[measure.Sample]], case: str) -> float:
    ours, theirs = (found[case, who][0].said["losses"] for who in WHO)
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), *sys.argv[6:])
    else:
        words = sys.argv[1:]
        run = curves if words[:1] == ["curves"] else main
        number, *places = (words[1:] or ["100"]) if run is curves else (words or ["3"])
        if not places:
            places = [str(synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1)), RANDOM]
        run(int(number), *places)
