"""Examples to learn from or to measure on, from a file: a line each.

`.tsv`: what is asked, a tab, what is answered. `.txt`: a text. Anything else is JSON: {"prompt", "completion"}
or {"text"}. What is asked does not count in the loss.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

#: What a label is where the loss does not count it.
IGNORED = -100


def examples(path: Path) -> list[tuple[str, str]]:
    """(prompt, what follows) of each line of a file. Raises `InputError` with the line of one that is neither."""
    from adaptr.untrusted import opened

    read = {".tsv": _row, ".txt": _text}.get(path.suffix, _object)
    with opened(path) as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    found = [read(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"`{path}` holds no examples", want="a JSON object a line")
    return found


def _text(path: Path, number: int, line: str) -> tuple[str, str]:
    return "", line


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    prompt, tab, text = line.partition("\t")
    if not tab or not text.strip() or "\t" in text:
        raise InputError(f"`{path}`, line {number}: no example", want="what is asked, one tab, and what is answered")
    return prompt, text


def _object(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{path}`, line {number}: not JSON: {error}", hint="write one JSON object a line") from None
    for prompt, text in (("prompt", "completion"), ("", "text")):
        if isinstance(row, dict) and isinstance(row.get(text), str) and isinstance(row.get(prompt, ""), str):
            return str(row.get(prompt, "")), str(row[text])
    raise InputError(f"`{path}`, line {number}: no example", want='{"text": ...} or {"prompt": ..., "completion": ...}')


def encoded(tokenizer: PreTrainedTokenizerBase, prompt: str, text: str) -> tuple[list[int], list[int]]:
    """(input ids, labels) of one example; the prompt's labels don't count."""
    head = tokenizer(prompt, add_special_tokens=True)["input_ids"] if prompt else []
    rest = tokenizer(text, add_special_tokens=not prompt)["input_ids"]
    return [*head, *rest], [*(IGNORED for _ in head), *rest]


def batch(rows: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Encoded examples as one batch, padded on the right with what neither counts nor is attended to."""
    import torch

    longest = max(len(ids) for ids, _ in rows)
    padded = [(longest - len(ids), ids, labels) for ids, labels in rows]
    return {
        "input_ids": torch.tensor([ids + [0] * more for more, ids, _ in padded]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * more for more, ids, _ in padded]),
        "labels": torch.tensor([labels + [IGNORED] * more for more, _, labels in padded]),
    }
