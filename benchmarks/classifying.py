"""MiniLM on SST-2, by `adaptr train`'s trainer and by PEFT with transformers' `Trainer`: the same tensors at the start,
data, order and optimiser. The losses of all steps, and the accuracy on records held out.

`python benchmarks/classifying.py SST2 [STEPS]`: a folder with `train.tsv` and `test.tsv`, of `sentence` and `label`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure

ROWS, LENGTH, SEED = 32, 64, 0
NAMES = {"text": "sentence"}


def one(who: str, folder: str, steps: int) -> None:
    """Train, and say losses and accuracy."""
    import real_models
    import torch
    from transformers import PrinterCallback, Trainer
    from with_peft import as_peft

    import adaptr
    from adaptr import data, tasks
    from adaptr.training.arguments import arguments
    from adaptr.training.fields import recipe
    from adaptr.training.precision import Machine
    from adaptr.training.trainers import Plain

    base, task = real_models.minilm(), tasks.by_name("classify")
    tools = tasks.tools(base)
    learn, held = (data.read(f"{folder}/{name}.tsv", NAMES).records for name in ("train", "test"))
    learn = learn[: steps * ROWS]
    limits = tasks.Limits(LENGTH, task.labels(learn, base))
    found = [dict(each.example) for each in task.encode(learn, tools, limits)]
    torch.manual_seed(SEED)  # of the head, which is fresh
    model: Any = task.model(base, limits.labels, dtype=torch.float32)
    adapter = adaptr.create(model, "lora", ["attn.q", "attn.v"], r=16, alpha=32.0, also=task.heads(model, base))
    said = recipe(base="-", data="-", batch=ROWS, steps=steps, rate=1e-3, save_every=0, schedule="constant", seed=SEED)
    given: dict[str, Any] = {"data_collator": lambda some: dict(task.collate(some, tools)), "train_dataset": found}
    with tempfile.TemporaryDirectory() as place:
        args = arguments(said, "plain", Machine("cpu", "fp32"), Path(place))
        if who == "adaptr":
            trainer: Any = Plain(model, lambda it: adaptr.train(it, adapter), args=args, **given)
        else:
            trainer = Trainer(model=as_peft(model, adapter, Path(place)), args=args, **given)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    right = accuracy(trainer.model.eval(), task, list(task.encode(held, tools, limits)), tools)
    losses = [point["loss"] for point in trainer.state.log_history if "loss" in point]
    print(json.dumps({"losses": losses, "right": right, "peak": measure.peak()}))


def accuracy(model: Any, task: Any, encoded: Sequence[Any], tools: Any) -> float:
    import torch

    right = 0
    for start in range(0, len(encoded), ROWS):
        batch = dict(task.collate([one.example for one in encoded[start : start + ROWS]], tools))
        labels = batch.pop("labels")
        with torch.no_grad():
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(encoded)


def main(folder: str, steps: int) -> None:
    found: Any = {
        who: measure.process(measure.own("classifying.py", "one", who, folder, str(steps)), threads=1)
        for who in ("adaptr", "peft")
    }
    ours, theirs = (sample.said for sample in found.values())
    apart = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    print(f"\n### MiniLM on SST-2: lora r=16 on queries and values and a fresh head, {steps} steps of {ROWS}\n")
    print("| | first loss | last loss | accuracy held out | CPU s in all | peak MB |\n|---|---|---|---|---|---|")
    for who, sample in found.items():
        losses, right = sample.said["losses"], sample.said["right"]
        print(f"| {who} | {losses[0]:.4f} | {losses[-1]:.4f} | {right:.4f} | {sample.cpu:.1f} | {sample.peak:.0f} |")
    print(f"\nlargest distance of the losses of any step: {apart:.1e}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
