"""`cases.json`, which a tool's `make.py` writes, and what its `check.py` says of it. Needs nothing but Python.

A case: `name`; `base` and `adapter`, files of the folder, `adapter` empty for the base alone; `outputs`, what should
come out, as nested lists, or `like`, the name of a case before it, for what came out there; `limit` of the error; and
whatever the tool wants to know besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

NAME = "cases.json"


def write(folder: Path, cases: Iterable[dict[str, Any]], name: str = NAME, **common: Any) -> None:
    """`common`: what each case has that does not say otherwise."""
    (folder / name).write_text(json.dumps([{**common, **case} for case in cases]), "utf-8")


def read(folder: Path, name: str = NAME) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / name).read_text("utf-8"))
    return found


def held(folder: Path, outputs: Callable[[dict[str, Any]], Any], array: Callable[[Any], Any]) -> None:
    """Prints what each case has for error, and what its adapter changes.

    outputs: from a case to what the tool computes; array: from lists to an array that such can be taken from.
    """
    results: dict[str, dict[str, float]] = {}
    bare: dict[str, Any] = {}
    every: dict[str, Any] = {}
    for case in read(folder):
        every[case["name"]] = found = outputs(case)
        wanted = every[case["like"]] if "like" in case else array(case["outputs"])
        results[case["name"]] = {"error": _gap(found, wanted), "limit": case["limit"]}
        if case["adapter"]:
            results[case["name"]]["effect"] = _gap(found, bare[case["base"]])
        else:
            bare[case["base"]] = found
    print(json.dumps(results))


def _gap(found: Any, other: Any) -> float:
    return float(abs(found - other).max())
