"""Weights found on data: adapters are attached to the base together, and their strengths tried out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptr import plugins
from adaptr.errors import InputError, UsageError
from adaptr.ops.apply import explained, quiet_transformers
from adaptr.ops.parents import Parent
from adaptr.strategies.base import Strategy


def searched(strategy: Strategy, cfg: Any, given: Sequence[Parent], base: Any) -> list[Parent]:
    """The same inputs at the weights that the strategy finds on `cfg.data`, times those that were given."""
    if base is None:
        raise UsageError(f"strategy `{strategy.name}` tries weights on the model: give the base (`--base`)")
    rows = examples(Path(cfg.data))
    model, tokenizer = _loaded(base)
    tokens = [_tokens(tokenizer, prompt, text, model) for prompt, text in rows]
    with ExitStack() as stack:
        hooks = [plugins.hooks(parent.adapter.method) for parent in given]
        handles = [
            stack.enter_context(hook.apply(model=model, adapter=parent.adapter, weight=1.0))
            for hook, parent in zip(hooks, given, strict=True)
        ]

        def loss(weights: Sequence[float]) -> float:
            for handle, weight in zip(handles, weights, strict=True):
                handle.weight = weight
            return _loss(model, tokens)

        found = strategy.search(loss, len(given), cfg)
    return [replace(parent, weight=weight) for parent, weight in zip(given, found, strict=True)]


def examples(path: Path) -> list[tuple[str, str]]:
    """(prompt, what follows) of each line of a file. Raises `InputError` with the line of one that is neither."""
    from adaptr.format.io import opened

    with opened(path) as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    found = [_example(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"`{path}` holds no examples")
    return found


def _example(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{path}`, line {number}: not JSON: {error}") from None
    for prompt, text in (("prompt", "completion"), ("", "text")):
        if isinstance(row, dict) and isinstance(row.get(text), str) and isinstance(row.get(prompt, ""), str):
            return str(row.get(prompt, "")), str(row[text])
    raise InputError(f'`{path}`, line {number}: wanted {{"text": ...}} or {{"prompt": ..., "completion": ...}}')


def _loaded(base: Any) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder, or of a live model that says where its tokenizer is."""
    transformers = quiet_transformers()
    folder = base if isinstance(base, str | Path) else base.config._name_or_path
    tokenizer = explained(folder, transformers.AutoTokenizer.from_pretrained)
    if not isinstance(base, str | Path):
        return base, tokenizer
    return explained(folder, transformers.AutoModelForCausalLM.from_pretrained).eval(), tokenizer


def _tokens(tokenizer: Any, prompt: str, text: str, model: Any) -> tuple[Any, Any]:
    """(input ids, labels) (1, n) each; the prompt's labels don't count."""
    import torch

    head = tokenizer(prompt, add_special_tokens=True)["input_ids"] if prompt else []
    rest = tokenizer(text, add_special_tokens=not prompt)["input_ids"]
    ids, labels = torch.tensor([[*head, *rest]]), torch.tensor([[*(-100 for _ in head), *rest]])
    return ids.to(model.device), labels.to(model.device)


def _loss(model: Any, tokens: Sequence[tuple[Any, Any]]) -> float:
    import torch

    with torch.no_grad():
        losses = [float(model(input_ids=ids, labels=labels).loss) for ids, labels in tokens]
    return sum(losses) / len(losses)
