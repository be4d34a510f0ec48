"""The table as it is kept: a line of JSON for each trial."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("table.jsonl")
#: What is done, and how the page says it.
COLUMNS: dict[str, str] = {
    "train": "a step of training changes it and nothing else, and the loss is finite",
    "checkpointing": "under gradient checkpointing the gradients are the same",
    "ddp": "under DistributedDataParallel the gradients are the same",
    "compile": "`torch.compile(fullgraph=True)` gives the same outputs",
    "cache": "token by token behind a cache it gives what it gives at once",
    "nf4": "attached to a base in NF4 it gives what it gives on the weights that these are decoded to",
    "stack": "`adaptr.stack` of two is one attached after the other",
    "pool": "a row of a mixed batch in `adaptr.pool` is what it is alone",
    "expert": "it is an expert of a learnt gate (`lora-soups`)",
    "merge": "`adaptr merge` writes weights that give the same outputs",
    "unmerge": "`adaptr unmerge` gives the base's files back, bit for bit",
    "compose": "`adaptr compose` of two, each at half weight, is both merged at half weight",
    "diff": "`adaptr diff` measures two of them",
    "lora": "`adaptr convert --method lora` at full rank is the same delta",
    "quantise": "`adaptr quantize` makes it smaller, with its error declared",
    "peft": "PEFT's files hold it, and it comes back bit for bit",
}


@dataclass(frozen=True)
class Verdict:
    """`verdict`: yes, no, or CRASH for what is no answer of adaptr's. `why`: what is to be said of it."""

    method: str
    what: str
    verdict: str
    why: str = ""


def load(file: Path = FILE) -> list[Verdict]:
    if not file.exists():
        return []
    return [Verdict(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def dump(found: Iterable[Verdict], file: Path = FILE, order: Iterable[str] = tuple(COLUMNS)) -> None:
    places = list(order)
    lines = sorted(found, key=lambda one: (one.method, places.index(one.what)))
    text = (json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in lines)
    file.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
