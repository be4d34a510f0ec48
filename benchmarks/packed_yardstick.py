"""What a merged checkpoint is worth, of whatever layout: its weights decoded to fp32 in one and the same model, beside
the packed base with the adapter attached, in fp32 too. So figures tell of weights, not of a library's kernels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

import adaptr
from adaptr import data as records
from adaptr import plugins, tasks
from adaptr.adapter import Adapter
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole

Weights = dict[str, torch.Tensor]
#: Of the text: this many windows of as many tokens.
WINDOWS, LENGTH = 4, 256
#: How adapters are called that have learned something: of others answers say nothing.
TRAINED = "trained"
#: Weights of the trained one (at 4 nothing is left of the model), and sizes of random ones; the most wanted first.
SIZES = {"trained x 1": 1.0, "random 4%": 0.04, "random 20%": 0.2, "random 1%": 0.01, "trained x 0.25": 0.25}


def decoded(folder: Path) -> Weights:
    """Every weight as the model has it, fp32."""
    return {name: whole(stored).float() for name, stored in open_checkpoint(folder).tensors.items()}


def change(adapter: Adapter) -> Weights:
    """D by the name of the weight."""
    method = plugins.method(adapter.method)
    return {
        f"{path}.weight": method.operator(target, adapter.at(path)).dense(torch.float32)
        for path, target in adapter.targets.items()
    }


def kept(base: Weights, after: Mapping[str, torch.Tensor], change: Weights) -> dict[str, float]:
    """survived: <W' - W, D> / ‖D‖²; left: ‖W' - (W + D)‖ / ‖D‖, over all weights that change."""
    square = moved = lost = size = 0.0
    for name, D in change.items():
        there = after[name] - base[name]
        square += float(D.square().sum())
        moved += float((there * D).sum())
        lost += float((there - D).square().sum())
        size += float(base[name].square().sum())
    return {"relative": math.sqrt(square / size), "survived": moved / square, "left": math.sqrt(lost / square)}


class Yardstick:
    """`answers`: records of which the loss of the completions is taken; `text`: one that nobody was trained on."""

    def __init__(self, model: Path, answers: Path, text: Path) -> None:
        from transformers import AutoModelForCausalLM

        tools = tasks.tools(model)
        limits, read = tasks.Limits(LENGTH), records.read(answers)
        self._answers = [dict(one.example) for one in tasks.by_name("lm").encode(read.records, tools, limits)]
        ids = tools.tokenizer(text.read_text(encoding="utf-8")[: 8 * WINDOWS * LENGTH])["input_ids"]
        self._text = torch.tensor(ids[: WINDOWS * LENGTH]).view(WINDOWS, LENGTH)
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._reference: torch.Tensor | None = None
        self.answering = True

    def put(self, weights: Weights) -> None:
        self._model.load_state_dict(dict(weights), strict=False, assign=True)
        self._model.tie_weights()

    def measure(self, adapter: Adapter | None = None, reference: bool = False) -> dict[str, float]:
        """Of the weights that were put last, with an adapter attached. `reference`: what others are compared with.
        Nothing where there is nothing to answer.
        """
        if not self.answering:
            return {}
        with torch.inference_mode(), adaptr.attach(self._model, adapter) if adapter else nullcontext():
            logits = torch.stack([self._model(row[None]).logits[0] for row in self._text])
            found = {"answers": self._loss(), "perplexity": _perplexity(logits, self._text)}
        if reference:
            self._reference = logits
        elif self._reference is not None:
            found["logits"] = float((logits - self._reference).norm() / self._reference.norm())
        return found

    def _loss(self) -> float:
        total, count = 0.0, 0
        for one in self._answers:
            ids, labels = torch.tensor([one["input_ids"]]), torch.tensor(one["labels"])
            logits = self._model(ids).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum"))
            count += int((labels[1:] >= 0).sum())
        return total / count


def _perplexity(logits: torch.Tensor, ids: torch.Tensor) -> float:
    return math.exp(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


def sized(name: str, trained: Adapter, base: Weights) -> Adapter:
    """The trained one at a weight, or a random one of a size relative to the base's weights."""
    kind, size = name.split()[0], SIZES[name]
    if kind == TRAINED:
        return _times(trained, dict.fromkeys(trained.targets, size))
    drawn = _random(trained)
    by = {key: size * float(base[key].norm() / D.norm()) for key, D in change(drawn).items()}
    return _times(drawn, {key.removesuffix(".weight"): each for key, each in by.items()})


def _times(adapter: Adapter, by: Mapping[str, float]) -> Adapter:
    return adapter.replace(
        tensors={
            name: tensor * by[name.rpartition(":")[0]] if name.endswith(":B") else tensor
            for name, tensor in adapter.tensors.items()
        }
    )


def _random(adapter: Adapter) -> Adapter:
    torch.manual_seed(0)
    return adapter.replace(tensors={name: torch.randn(tensor.shape) for name, tensor in adapter.tensors.items()})


def line(cell: Mapping[str, Any]) -> str:
    """A cell as JSON, with six digits."""
    return json.dumps({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in cell.items()})
