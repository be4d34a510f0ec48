"""Readers of data: each format, with columns renamed and shapes told, and each task that makes examples of it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import speaking
from adaptr import data, tasks
from adaptr.tasks import Limits, Tools
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_json

CHAT = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "the cat"}]
#: Records of each task, and of shapes that become those of one.
RECORDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lm", {"messages": [*CHAT, *CHAT]}),
    ("lm", {"prompt": CHAT[:1], "completion": CHAT[1:]}),
    ("lm", {"prompt": "a", "completion": "the cat"}),
    ("lm", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "the cat"}]}),
    ("lm", {"instruction": "a", "input": "b", "output": "the cat"}),
    ("lm", {"text": "the cat sat"}),
    ("preference", {"prompt": "a", "chosen": "the cat", "rejected": "b"}),
    ("classify", {"text": "a", "text_pair": "b", "label": 1}),
    ("regress", {"text": "a", "label": 0.5}),
    ("tag", {"words": ["the", "cat"], "tags": ["x", "1"]}),
    ("qa", {"question": "a", "context": "the cat sat", "answers": {"text": ["cat"], "answer_start": [4]}}),
    ("seq2seq", {"translation": {"en": "a", "ro": "b"}}),
    ("speech", {"input_features": [[0.5, 1.0], [0.25, 0.0]], "text": "a"}),
    ("image", {"image": [[[0, 1, 2], [3, 4, 255]]], "label": "1"}),
)
TABLE = 'prompt,completion,label\na,"b ""c"", d",1\n"e\nf",g,x\n'
LIMITS = Limits(16, ("1", "x"))


def _data(folder: Path) -> dict[str, Reader]:
    place = folder / "data"
    place.mkdir()
    have = Tools(speaking.tokenizer(), pad=0)

    def of_records(random: Random) -> Example:
        name, record = random.choice(RECORDS)
        raw = mutations.text(random, record)
        whole = random.random() < 0.3
        file = place / ("a.json" if whole else "a.jsonl")
        file.write_bytes(b"[" + raw + b"]" if whole else raw + b"\n" + mutations.dumped(record).encode())

        def read() -> None:
            found = data.read(file)
            task = tasks.by_name(name)
            encoded = list(task.encode(found.records, have, LIMITS))
            assert all(one.learns > 0 for one in encoded)

        return is_json(raw), read

    def of_table(random: Random) -> Example:
        raw = mutations.flipped(random, TABLE.encode())
        file = place / random.choice(("a.csv", "a.tsv", "a.txt"))
        file.write_bytes(raw)
        return raw.isascii(), lambda: data.read(file, {"text": "prompt"} if file.suffix == ".csv" else {})

    return {"records": of_records, "table": of_table}


READERS = (_data,)
