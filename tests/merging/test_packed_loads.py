"""What merging into packed checkpoints writes, loaded by transformers: it gives what the base with the adapter does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
from adaptr.checkpoint import open_checkpoint
from packed_bases import lora

#: Reference to the largest error of its logits, relative: what rounding the merged weights once costs, and for eight
#: bits that the host's products round activations too, of packed weights and no others.
KINDS = {"bnb-nf4": 0.01, "bnb-nf4-dq": 0.01, "bnb-fp4": 0.01, "bnb-int8": 0.06, "fp8-block": 0.01}


def logits(folder: Path, adapter: Any = None) -> torch.Tensor:
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        ids = torch.arange(24).reshape(2, 12) % 60
        with torch.no_grad():
            if adapter is None:
                return model(ids).logits.float()
            with adaptr.attach(model, adapter):
                return model(ids).logits.float()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_logits_are_those_of_the_attached_adapter(shared: Path, tmp_path: Path, kind: str, packed: bool) -> None:
    pytest.importorskip("bitsandbytes")
    base = shared / "quant-refs" / kind
    adapter = lora(open_checkpoint(base), 0.3)
    report = adaptr.merge(base, adapter, tmp_path / "out", packed=packed)
    bare, attached, merged = logits(base), logits(base, adapter), logits(tmp_path / "out")
    assert (attached - bare).norm() > 0.1 * bare.norm()
    off = report.packed.left * float((attached - bare).norm() / attached.norm()) * 1.5 if report.packed else 0.0
    assert float((merged - attached).norm() / attached.norm()) < KINDS[kind] + off
