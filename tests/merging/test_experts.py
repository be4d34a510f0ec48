"""Adapters of stacked experts on checkpoints that have each expert apart: as if the checkpoint were stacked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import nn

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close, merged, shaken

#: More than ten experts: names are no numbers in order.
SPARSE = {**tiny.GROUPED, "moe_intermediate_size": 16, "head_dim": 8, "num_experts": 12, "num_experts_per_tok": 4}
MODELS: dict[str, Any] = {
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**tiny.GROUPED, num_local_experts=3)),
    "qwen3": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**SPARSE)),
}
IDS = torch.arange(12).view(2, 6)


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_stack_is_merged_verified_and_taken_out_again(name: str, method: str, tmp_path: Path) -> None:
    model = seeded(name)
    model.save_pretrained(tmp_path / "base")
    adapter = shaken(adaptr.create(model, method, ["*experts*", "attn.q"], name="a"), 1, 0.3)
    assert adapter.base.content
    adaptr.merge(tmp_path / "base", [(adapter, 0.7)], tmp_path / "out")
    made = type(model).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert_close(made(IDS).logits, merged(model, [(adapter, 0.7)])(IDS).logits, to=1e-5)
    adaptr.save(adapter, tmp_path / "a.safetensors")
    adaptr.verify(tmp_path / "out", base=tmp_path / "base", adapters=[(tmp_path / "a.safetensors", 0.7)])
    adaptr.unmerge(tmp_path / "out", tmp_path / "again")
    assert digests(tmp_path / "again") == digests(tmp_path / "base")


def test_another_revision_is_noticed_in_experts_too(tmp_path: Path) -> None:
    model = seeded("qwen3")
    adapter = shaken(adaptr.create(model, "lora", ["*experts*"], name="a"), 1, 0.3)
    torch.manual_seed(1)
    MODELS["qwen3"]().save_pretrained(tmp_path / "base")
    with pytest.raises(errors.ContentMismatch):
        adaptr.merge(tmp_path / "base", [adapter], tmp_path / "out")


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    adapter = shaken(adaptr.create(seeded("mixtral"), "lora", ["*experts*"], name="a"), 1, 0.3)
    config = t.MixtralConfig(**tiny.GROUPED, num_local_experts=4)
    t.MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    with pytest.raises(errors.TargetMismatch, match=r"experts.*\(4, "):
        adaptr.merge(tmp_path / "base", [adapter], tmp_path / "out")
