"""docs/peft.md: PEFT's types with what is here of each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from adaptr.foreign.peft import listed, types
from pages.markdown import table

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
# PEFT's types

The types of adapters that PEFT 0.21.2 has, held against the installed one by a test. Written: as this type, by any
of the methods. Held against PEFT: tests that have PEFT compute what its own files do, and what files written here do.
What is not read is refused with the reason; PEFT can merge it, and `adaptr extract` takes an adapter of some rank out
of the result.
"""
#: What PEFT calls the configuration of a type, where that is not its name.
CONFIGS = {"PROMPTENCODER": "P_TUNING", "MULTITASKPROMPTTUNING": "MULTITASK_PROMPT_TUNING"}


def page() -> str:
    held = oracles()
    rows = [_row(name, held.get(name, ())) for name in sorted(listed.PEFT)]
    return f"{HEAD}\n{table(('PEFT type', 'here', 'read', 'written', 'held against PEFT by', 'why not'), rows)}"


def _row(name: str, held: tuple[str, ...]) -> tuple[str, ...]:
    kind = types.known(name)
    if kind is None:
        return name, "", "no", "no", "", why(name)
    here = ", ".join(f"[`{one}`](methods.md#{one})" for one in kind.methods)
    return name, here, "yes", "yes", ", ".join(held), ""


def why(name: str) -> str:
    """Why a type is not read."""
    return listed.LOST[name][0] if name in listed.LOST else listed.UNREAD[name]


def oracles() -> Mapping[str, tuple[str, ...]]:
    """Type to the tests that have PEFT make an adapter of it: those of all types, and of types that are in none of
    these, others.
    """
    folder = ROOT / "tests" / "foreign"
    found = _in(folder.glob("test_oracle*.py"))
    return {**_in(file for file in folder.glob("test_*.py") if "peft: Any" in file.read_text("utf-8")), **found}


def _in(files: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    found = defaultdict(list)
    named = {name.replace("_", ""): name for name in listed.PEFT} | CONFIGS
    for file in sorted(files):
        configs = {one.upper() for one in re.findall(r"(\w+)Config\b", file.read_text("utf-8"))}
        for name in configs & named.keys():
            found[named[name]].append(f"[{file.name}](../{file.relative_to(ROOT)})")
    return {name: tuple(each) for name, each in found.items()}
