"""What adaptr reads of Flax's and TensorStore's prompts, and the same written as Flax's. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases

import adaptr


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for case in cases.read(folder, "theirs.json"):
        if not case["adapter"]:
            yield {**case, "found": case["outputs"]}
            continue
        found = adaptr.load(folder / case["adapter"])
        yield {**case, "found": found.tensors[":P"].double().tolist()}
        written = f"{case['adapter']}.msgpack"
        adaptr.convert(folder / case["adapter"], folder / written, to="t5x", lossy=True)
        yield {**case, "name": f"{case['name']}, written", "written": written}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
