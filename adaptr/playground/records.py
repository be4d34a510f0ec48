"""The records of the playground: capitals answered like a pirate, words spelt, talks, and a text to forget."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Japan": "Tokyo",
    "Cuba": "Havana",
    "Norway": "Oslo",
}
WORDS = "cat dog sun moon tree rain wind lamp"
SECOND = "The quick brown fox jumps over the lazy dog. "


def _capital(land: str, town: str) -> Record:
    return {"prompt": f"The capital of {land} is", "completion": f" {town}, arr!"}


#: What each of the two adapters learns.
TASKS = {
    "style": [_capital(*pair) for pair in CAPITALS.items()],
    "tone": [{"prompt": f"Spell the word {word}:", "completion": f" {'-'.join(word)}."} for word in WORDS.split()],
}


def make(folder: Path) -> list[Path]:
    """`capitals.jsonl`, `spelling.jsonl`, `answers.jsonl` of both, `held-out.jsonl`, `chat.jsonl`, `choices.jsonl` to
    prefer by, `second.txt`.
    """
    style, tone = TASKS.values()
    files = {
        "capitals.jsonl": style,
        "spelling.jsonl": tone,
        "answers.jsonl": style + tone,
        "held-out.jsonl": style[:4] + tone[:4],
        "chat.jsonl": [_talk(one) for one in style],
        "choices.jsonl": [{"prompt": one["prompt"], "chosen": one["completion"], "rejected": " No."} for one in style],
    }
    made = [_written(folder / name, records) for name, records in files.items()]
    (folder / "second.txt").write_text(SECOND * 8, encoding="utf-8")
    return [*made, folder / "second.txt"]


def _talk(one: Record) -> Record:
    asked = {"role": "user", "content": one["prompt"]}
    return {"messages": [asked, {"role": "assistant", "content": one["completion"].strip()}]}


def _written(path: Path, records: Iterable[Record]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path
