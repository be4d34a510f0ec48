"""Composing that is refused: options, bases, numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import adaptr
from adaptr.adapter import Base, Target
from adaptr.errors import (
    AdaptrError,
    ContentMismatch,
    NonFinite,
    NotPossible,
    TargetMismatch,
    UsageError,
    WrongBase,
)
from composing.inputs import lora


def refused(error: type[AdaptrError], match: str, *inputs: Any, **options: Any) -> None:
    with pytest.raises(error, match=match):
        adaptr.compose(list(inputs), **options)


def test_bad_options() -> None:
    a, b = lora(1), lora(2)
    refused(UsageError, "rank is 0", a, b, rank=0)
    refused(UsageError, "energy is 1.5", a, b, energy=1.5)
    refused(UsageError, "wants a rank", a, b, strategy="svd")
    refused(UsageError, "all weights are zero", (a, 0.0), (b, 0))
    refused(UsageError, "finite", (a, math.nan), b)
    refused(UsageError, "takes 2 adapters, got 3", a, b, lora(3), strategy="slerp")
    refused(UsageError, "or more adapters, got 0")
    refused(UsageError, "given twice", a, b, lora(1))
    refused(UsageError, "no strategy `a.safetensors`", a, b, strategy=Path("a.safetensors"))
    refused(UsageError, "none negative", (a, -1.0), (b, 2.0), strategy="karcher")


def test_different_bases_are_refused() -> None:
    a, b = lora(1), lora(2)
    refused(WrongBase, "different structure", a, b.replace(base=Base(structure="sha256:0")))
    refused(ContentMismatch, "other weights", a, b.replace(base=Base(structure=a.base.structure, content="sha256:0")))
    one, two = (x.replace(base=Base(id=name)) for x, name in ((a, "org/one"), (b, "two")))
    refused(WrongBase, "any_base=True", one, two)
    adaptr.compose([one, two], any_base=True)
    adaptr.compose([one, b.replace(base=Base(id="./local/One"))])
    refused(WrongBase, "different structure", a, lora(1, "gpt2"))
    other = lora(4, "gpt2").replace(base=Base())
    wide = {p: Target(p, t.kind, (t.shape[0], t.shape[1] + 1), t.config) for p, t in other.targets.items()}
    refused(TargetMismatch, "different bases", other, other.replace(targets=wide, tensors=lora(5, "gpt2").tensors))


@pytest.mark.parametrize("strategy", ["linear", "ties", "dare", "iso-c"])
def test_nan_is_refused(strategy: str) -> None:
    a, b = lora(1), lora(2)
    key = next(iter(b.tensors))
    broken = b.tensors[key].clone()
    broken[0, 0] = math.nan
    refused(NonFinite, "`a2` holds NaN", a, b.replace(tensors={**b.tensors, key: broken}), strategy=strategy)


def test_fedex_wants_one_rank() -> None:
    refused(NotPossible, "use `linear`", lora(1, r=2), lora(2, r=3), strategy="fedex")
