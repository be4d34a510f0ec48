"""Folders for servers: plain LoRA of one rank and one alpha, the same change, or a refusal with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.api import serve
from adaptr.errors import Unsupported, UsageError
from adaptr.testing import assert_close, logits, shaken


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("server", ["vllm", "sglang", "lorax"])
@pytest.mark.parametrize(("method", "config"), [("lora", {"r": 4, "rslora": True}), ("loha", {"r": 2})])
def test_peft_computes_the_same_from_it(tmp_path: Path, server: str, method: str, config: Any) -> None:
    from peft import PeftModel

    model = tiny.model("llama")
    one = shaken(adaptr.create(model, method, ["attn.q", "mlp.down"], **config))
    adaptr.save(one, tmp_path / "a.safetensors")
    report = serve(tmp_path / "a.safetensors", tmp_path / "served", server, base=model)
    written = json.loads((tmp_path / "served" / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"], written["peft_type"]) == (4, 4, "LORA")
    assert not written.get("rank_pattern")
    assert not written.get("alpha_pattern")
    assert report.error == 0
    with torch.no_grad():
        with adaptr.attach(model, one):
            wanted = logits(model(**tiny.inputs("llama"))).clone()
        served = PeftModel.from_pretrained(tiny.model("llama"), tmp_path / "served").eval()
        assert_close(served(**tiny.inputs("llama")).logits, wanted, 1e-5)


def test_larger_ranks_are_cut_and_the_error_measured(tmp_path: Path) -> None:
    model = tiny.model("llama")
    one = shaken(adaptr.create(model, "lora", "attn.q", r=8))
    adaptr.save(one, tmp_path / "a.safetensors")
    report = serve(tmp_path / "a.safetensors", tmp_path / "served", "vllm", rank=4)
    cut = adaptr.load(tmp_path / "served")
    pairs = [(one[p].dense(), cut[p].dense()) for p in one.targets]
    lost, whole = (sum(float(t.square().sum()) for t in ts) for ts in zip(*((a - b, a) for a, b in pairs), strict=True))
    assert report.rank == 4
    assert report.error == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
    assert "--max-lora-rank 8" in report.flags


@pytest.mark.parametrize("method", ["dora", "ia3", "bitfit", "houlsby", "prefix"])
def test_what_no_server_loads_is_refused(tmp_path: Path, method: str) -> None:
    model = tiny.model("gpt2")
    adaptr.save(shaken(adaptr.create(model, method)), tmp_path / "a.safetensors")
    with pytest.raises(Unsupported, match="loads plain LoRA alone"):
        serve(tmp_path / "a.safetensors", tmp_path / "served", "vllm")
    assert not (tmp_path / "served").exists()


def test_other_refusals(tmp_path: Path) -> None:
    model = tiny.model("llama")
    one = shaken(adaptr.create(model, "lora", "attn.q", bias=True))
    adaptr.save(one, tmp_path / "a.safetensors")
    whole = one.replace(tensors={**one.tensors, "model.norm.weight:=": torch.ones(tiny.WIDTH)})
    adaptr.save(whole, tmp_path / "whole.safetensors")
    adaptr.save(adaptr.create(model, "lora", "embed"), tmp_path / "table.safetensors")
    for file, reason in (("a", "changes the bias"), ("whole", "modules_to_save"), ("table", "kind `embedding`")):
        with pytest.raises(Unsupported, match=reason):
            serve(tmp_path / f"{file}.safetensors", tmp_path / "served", "lorax")
    for server, rank in (("triton", None), ("vllm", 1024), ("sglang", 0)):
        with pytest.raises(UsageError):
            serve(tmp_path / "a.safetensors", tmp_path / "served", server, rank=rank)


def test_lorax_needs_a_kind_of_layer_in_each_block(tmp_path: Path) -> None:
    """It would leave the kind out where one block has none, and say nothing."""
    one = shaken(adaptr.create(tiny.model("llama"), "lora", ["*.layers.*.q_proj", "*.layers.0.*.v_proj"], r=2))
    adaptr.save(one, tmp_path / "a.safetensors")
    with pytest.raises(Unsupported, match=r"no `model\.layers\.1\.self_attn\.v_proj`, without which LoRAX"):
        serve(tmp_path / "a.safetensors", tmp_path / "served", "lorax")
    assert not (tmp_path / "served").exists()
    assert serve(tmp_path / "a.safetensors", tmp_path / "served", "vllm").error == 0


@pytest.mark.parametrize("server", ["vllm", "llama-server"])
def test_dropped_layers_are_not_in_it(tmp_path: Path, server: str) -> None:
    model = tiny.model("llama")
    adaptr.save(shaken(adaptr.create(model, "lora", ["attn.q"], r=4)), tmp_path / "a.safetensors")
    model.save_pretrained(tmp_path / "base")
    report = serve(tmp_path / "a.safetensors", tmp_path / "served", server, base=tmp_path / "base", drop="0")
    found = adaptr.load(tmp_path / "served" / "adapter.gguf" if server == "llama-server" else tmp_path / "served")
    assert report.targets == len(found.targets) == 1
    assert found.lineage["arguments"]["drop"] == [0]
    adaptr.drop(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "0")
    few = adaptr.load(tmp_path / "b.safetensors")
    assert_close(next(iter(found[p].dense() for p in found.targets)), few["model.layers.1.self_attn.q_proj"].dense())
    with pytest.raises(UsageError, match="numbers and ranges"):
        serve(tmp_path / "a.safetensors", tmp_path / "other", server, drop="all", base=tmp_path / "base")
