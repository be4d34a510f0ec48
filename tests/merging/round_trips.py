"""A merge, its proof, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


def round_trip(base: Path, stack: list[Any], out: Path, **options: Any) -> Any:
    """Merge, prove, take out again; the report of the merge."""
    before = c.digests(base)
    report = api.merge(base, stack, out, **options)
    verdict = api.verify(out, base, stack, tied=options.get("tied"))
    assert verdict.exact
    assert verdict.ok
    api.unmerge(out, out.with_name("back"))
    assert c.digests(out.with_name("back")) == before == c.digests(base)
    return report


def replacing(values: dict[str, Tensor], seed: int = 0) -> Adapter:
    """An adapter that replaces parameters of BERT as a whole, beside a delta of its own."""
    adapter = c.lora_at(Target("bert.pooler.dense", "linear", (tiny.WIDTH, tiny.WIDTH)), seed=seed)
    return adapter.replace(tensors={**adapter.tensors, **{f"{k}:=": v for k, v in values.items()}})
