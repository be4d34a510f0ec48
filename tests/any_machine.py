"""One checkpoint a dtype with a tensor for every way in which methods change weights, and what reads it elsewhere.

`python any_machine.py FOLDER [reversed]` is the other machine: run with other instruction sets and numbers of threads,
it takes every merge in FOLDER apart, verifies it and merges again. Nothing is drawn there: random numbers themselves
depend on the instruction set.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

import checkpoints as c
from adaptr import api, plugins
from adaptr.adapter import Adapter, Target

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}
#: Solves differ in the last bit, so a rotation may: its merges are held to be near, not equal.
NEAR = "oft"

FLAT, CONV = (96, 80), (24, 16, 3, 3)
CASES: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any]]] = {
    "lora": ("lora", "linear", FLAT, {"r": 16}),
    "lora-turned": ("lora", "linear_t", FLAT, {"r": 8, "rslora": True}),
    "lora-conv": ("lora", "conv2d", CONV, {"r": 4}),
    "lora-tucker": ("lora", "conv2d", CONV, {"r": 4, "tucker": True}),
    "lora-experts": ("lora", "experts", (3, 40, 24), {"r": 4}),
    "lora-experts-turned": ("lora", "experts_t", (3, 40, 24), {"r": 4}),
    "adalora": ("adalora", "linear", FLAT, {"r": 6}),
    "loha": ("loha", "linear", FLAT, {"r": 4}),
    "loha-tucker": ("loha", "conv2d", CONV, {"r": 4, "tucker": True}),
    "lokr": ("lokr", "linear", FLAT, {"r": 2, "a": 8, "b": 12, "c": 8, "d": 10, "w2_full": False}),
    "lokr-both": ("lokr", "linear_t", FLAT, {"r": 2, "a": 8, "b": 12, "c": 8, "d": 10, "w1_full": False}),
    "lokr-tucker": (
        "lokr",
        "conv2d",
        CONV,
        {"r": 2, "a": 4, "b": 6, "c": 4, "d": 4, "w2_full": False, "tucker": True},
    ),
    "vera": ("vera", "linear", FLAT, {"r": 32, "in_max": 80, "out_max": 96, "width": 80}),
    "full": ("full", "linear", FLAT, {}),
    "shira": ("shira", "linear", FLAT, {"n": 200, "rows": 96, "cols": 80}),
    "dora": ("dora", "linear", FLAT, {"r": 16}),
    "dora-turned": ("dora", "linear_t", FLAT, {"r": 4}),
    "dora-conv": ("dora", "conv2d", CONV, {"r": 4}),
    "ia3": ("ia3", "linear", FLAT, {"side": "out"}),
    "ia3-in": ("ia3", "linear", FLAT, {"side": "in"}),
    "oft": ("oft", "linear", FLAT, {"b": 16}),
    "oft-shared": ("oft", "linear_t", FLAT, {"b": 8, "share": True, "terms": 5}),
}


def adapter(path: str, method: str, kind: str, shape: tuple[int, ...], config: dict[str, Any]) -> Adapter:
    """An adapter of random numbers that change the weight by a few per cent."""
    own = plugins.method(method)
    target = Target(path, kind, shape, dict(vars(own.config(config))))
    tensors = {name: torch.randn(s) * (0.3 if len(s) > 1 else 0.05) for name, s in own.shapes(target).items()}
    if method in {"dora", "ia3"}:
        near_one = "m" if method == "dora" else "l"
        tensors[near_one] += 1
    if method == "oft":
        tensors["Q"] *= 0.1
    if method == "shira":
        tensors["i"] = torch.arange(200) * 37
    return Adapter(method, config, {path: target}, {f"{path}:{name}": t for name, t in tensors.items()}, name=path)


def write(folder: Path) -> None:
    """Bases, adapters and merges."""
    torch.manual_seed(3)
    adapters = {path: adapter(path, *case) for path, case in CASES.items()}
    adapters["lora-again"] = adapter("lora", *CASES["lora"])
    adapters["dora-on-lora"] = adapter("lora-turned", "dora", "linear_t", FLAT, {"r": 4})
    for name, one in adapters.items():
        api.save(one, folder / "adapters" / f"{name}.safetensors")
    for kind, dtype in DTYPES.items():
        tensors = {f"{p}{'' if 'experts' in p else '.weight'}": a.targets[p] for p, a in adapters.items() if p in CASES}
        c.bare(folder / kind, {name: torch.randn(t.stored_shape).to(dtype) for name, t in tensors.items()})
        api.merge(folder / kind, stack(folder), folder / f"{kind}-merged")


def stack(folder: Path) -> list[tuple[Adapter, float]]:
    files = sorted((folder / "adapters").iterdir())
    return [(api.load(path), 0.5 if "again" in path.name or path.stem == "dora" else 1.0) for path in files]


def read(folder: Path) -> dict[str, Any]:
    """By dtype: what does not come back, what verify says, and what merges differently."""
    found = {}
    for kind in DTYPES:
        merged = folder / f"{kind}-merged"
        verdict = api.verify(merged, folder / kind, stack(folder))
        api.unmerge(merged, folder / "back", force=True)
        api.merge(folder / kind, stack(folder), folder / "again", force=True)
        found[kind] = {
            "ok": verdict.ok,
            "verified": [d.tensor for d in verdict.differences],
            "back": differing(folder / kind, folder / "back"),
            "merged": differing(merged, folder / "again"),
        }
    return found


def differing(one: Path, other: Path) -> list[str]:
    a, b = c.tensors_of(one), c.tensors_of(other)
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def summed_backwards() -> None:
    """Another order of summation than any library's."""
    from adaptr.algebra import exact

    forwards = exact._product
    exact._product = lambda B, A: forwards([X.flip(-1) for X in B], [X.flip(-2) for X in A])


if __name__ == "__main__":
    if sys.argv[2:] == ["reversed"]:
        summed_backwards()
    print(json.dumps(read(Path(sys.argv[1]))))
