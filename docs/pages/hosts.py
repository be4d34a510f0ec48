"""docs/hosts.md out of what `make oracles ONLY=hosts` found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOUND = Path(__file__).resolve().parents[2] / "oracles" / "hosts" / "result.json"
#: The host that the others are held against: what a method can't do there is none of theirs.
PLAIN = "unpacked"
COLUMNS = {
    "attach": "attach",
    "attach_used": "attach, used",
    "create": "create",
    "create_used": "create, used",
    "train": "train",
    "train_used": "train, used",
    "checkpointing": "checkpointing",
    "generate": "generate",
    "stack": "stack",
    "pool": "pool",
    "merged": "merged=True",
}
HEAD = """\
# Bases in fewer bits

What adapters do on live models whose weights are packed, on a CPU. No cell is a claim: `make oracles ONLY=hosts` packs
a small model by each library, tries every method of `adaptr methods` on it, and holds outputs and gradients against the
same model with the weights that its codes stand for; a test fails where the result that is kept is above its limit.
{versions}

- attach, create: on a host that has not run. *Used*: after forwards of evaluation, by which some libraries pack weights
  anew; detached, it is what it was.
- train: gradients of all that learns, and a step. *Used*: with forwards of evaluation before and between.
  *Checkpointing*: of activations, in training mode.
- generate: the same tokens with a cache and without.
- stack, pool: under another adapter, at strengths that change; as one row of a batch beside a row without.
- merged=True: `attach` into the live weights.

`all` is every method that can do so on an unpacked base, with the largest error beside it: of outputs, relative to what
the adapter does; of gradients, relative to their size. Where inputs are quantised too the libraries' own rounding is in
it. The limits are 0.1, and 0.25 for gradients, for rows of a batch and on hosts that compute in bf16, whose rounding
alone comes near: a mistake that is smaller is not seen there. An adapter that did nothing would have an error of 1.
`no` is a refusal, whose reason is below.
"""


def page() -> str:
    found = json.loads(FOUND.read_text("utf-8"))
    cases: dict[str, dict[str, Any]] = {}
    for name, said in found["cases"].items():
        host, _, trial = name.rpartition(": ")
        cases.setdefault(host, {})[trial] = said
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(found["versions"].items()) if name in SAID)
    reasons: dict[str, int] = {}
    rows = "".join(_row(host, by, cases[PLAIN], reasons) for host, by in cases.items() if host != PLAIN)
    top = "| host | " + " | ".join(COLUMNS.values()) + " |\n" + "| --- " * (len(COLUMNS) + 1) + "|\n"
    why = "".join(f"{number}. {said}\n" for said, number in reasons.items())
    head = HEAD.format(versions=f"Of {found['date']}, by {libraries}.")
    return f"{head}\n{top}{rows}\n{why}"


#: The libraries that pack.
SAID = frozenset({"torch", "transformers", "bitsandbytes", "torchao", "compressed-tensors", "gptqmodel", "hqq"})


def _row(host: str, by: Mapping[str, Any], plain: Mapping[str, Any], reasons: dict[str, int]) -> str:
    cells = (_cell(by[trial], plain[trial], reasons) for trial in COLUMNS)
    return f"| {host} | " + " | ".join(cells) + " |\n"


def _cell(said: Mapping[str, Any], plain: Mapping[str, Any], reasons: dict[str, int]) -> str:
    never = {method for methods in plain["refused"].values() for method in methods}
    refused = {why: left for why, methods in said["refused"].items() if (left := sorted(set(methods) - never))}
    words = list(_refusals(refused, said["right"], reasons))
    if said["right"]:
        words.insert(0, f"{'all but' if refused else 'all'} ({said['error']:.0e})")
    return "; ".join(words)


def _refusals(refused: Mapping[str, list[str]], right: int, reasons: dict[str, int]) -> Iterator[str]:
    """Each reason once; with the methods that it is of, where others are right."""
    by: dict[int, list[str]] = {}
    for why, methods in refused.items():
        by.setdefault(reasons.setdefault(_plain(why), len(reasons) + 1), []).extend(methods)
    for number, methods in by.items():
        yield f"{', '.join(sorted(methods))} no {number}" if right else f"no {number}"


def _plain(why: str) -> str:
    """A reason without the names of layers."""
    return re.sub(r"`model\.[\w.]*`", "`…`", why.partition(": ")[2])
