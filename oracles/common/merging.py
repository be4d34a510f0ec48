"""What `make.py` does where a tool's own files are read: each is merged by adaptr into the base that it was made on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases

import adaptr


def merge_all(folder: Path, adapter: Callable[[dict[str, Any]], adaptr.Adapter]) -> None:
    """`cases.json` out of `theirs.json`, with what adaptr merged for the adapter.

    adapter: from a case to what adaptr reads of it.
    """

    def merged(case: dict[str, Any]) -> str:
        base = folder / case["base"]
        out = folder / f"{Path(case['adapter']).stem}-merged{base.suffix}"
        adaptr.merge(base, adapter(case), out, receipt=False)
        return out.name

    cases.write(folder, ({**case, "adapter": case["adapter"] and merged(case)}
                         for case in cases.read(folder, "theirs.json")))  # fmt: skip
