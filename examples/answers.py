"""Question-and-answer data as batches for a language model: `question <tab> answer`, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch


def lines(name: str) -> list[str]:
    """The lines of a data file beside this one."""
    return Path(__file__).with_name(name).read_text().splitlines()


def encoded(tokenizer: Any, rows: Sequence[str]) -> dict[str, Any]:
    """All rows as one padded batch; only the answers count in the loss."""
    made = []
    for line in rows:
        question, answer = line.split("\t")
        asked, said = tokenizer(question).input_ids, [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
        made.append((asked + said, [-100] * len(asked) + said))
    longest = max(len(ids) for ids, _ in made)
    ids = torch.tensor([i + [tokenizer.eos_token_id] * (longest - len(i)) for i, _ in made])
    labels = torch.tensor([label + [-100] * (longest - len(label)) for _, label in made])
    return {"input_ids": ids, "labels": labels}


def batches(tokenizer: Any, rows: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    """Batches of the rows for ever, in a new order each time round."""
    every = encoded(tokenizer, rows)
    while True:
        for some in torch.randperm(len(rows)).split(size):
            yield {name: values[some] for name, values in every.items()}
