"""Law 13 on named models: the numbers that the papers' formulas give, on the meta device."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import transformers as t

import adaptr
from adaptr.testing import count, trained_keys

QV = ["attn.q", "attn.v"]
CONFIGS: dict[str, Any] = {
    "bert-base": lambda: t.BertModel(t.BertConfig()),
    "llama-7b": lambda: t.LlamaForCausalLM(t.LlamaConfig()),
    "gpt2-medium": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=1024, n_layer=24, n_head=16)),
    "t5-base": lambda: t.T5ForConditionalGeneration(t.T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)),
    "bart-large": lambda: t.BartForConditionalGeneration(t.BartConfig()),
}
COUNTS = [
    ("bert-base", "lora", QV, {"r": 8}, 294_912),
    ("bert-base", "dora", QV, {"r": 8}, 313_344),
    ("bert-base", "loha", QV, {"r": 8}, 589_824),
    ("bert-base", "lokr", QV, {"r": 8}, 26_112),
    ("bert-base", "adalora", QV, {"r": 12}, 442_656),
    ("bert-base", "vera", QV, {"r": 256}, 24_576),
    ("bert-base", "oft", QV, {"b": 32}, 285_696),
    ("bert-base", "boft", QV, {"b": 4}, 92_160),
    ("t5-base", "krona", None, {}, 110_592),
    ("bert-base", "krona-b", None, {}, 12 * 1536),
    ("bert-base", "krona-bres", None, {}, 12 * 1537),
    ("bert-base", "qdora", QV, {"r": 8}, 313_344),
    ("bert-base", "hra", QV, {"r": 8}, 147_456),
    ("bert-base", "shira", QV, {"r": 8}, 294_912),
    ("bert-base", "full", QV, {}, 24 * 768 * 768),
    ("bert-base", "rslora", QV, {"r": 8}, 294_912),
    ("bert-base", "lora-plus", QV, {"r": 8}, 294_912),
    ("bert-base", "pissa", QV, {"r": 8}, 294_912),
    ("bert-base", "olora", QV, {"r": 8}, 294_912),
    ("bert-base", "kasa", QV, {"r": 8}, 295_104),
    ("bert-base", "mica", QV, {"r": 8}, 147_456),
    ("bert-base", "qalora", QV, {"r": 8, "group": 32}, 152_064),
    ("bert-base", "multilora", QV, {"n": 3, "r": 8}, 940_032),
    ("bert-base", "bd-lora", QV, {"r": 8, "blocks": 2}, 221_184),
    ("bert-base", "tied-lora", ["attn.q"], {"r": 8}, 2 * 768 * 8 + 12 * (8 + 768)),
    ("gpt2-medium", "tied-lora", None, {"r": 8}, 4 * 1024 * 8 + 24 * (8 + 3 * 1024)),
    ("llama-7b", "tied-lora", None, {"r": 8}, 524_544 + 2 * 32 * 8),  # u is one of three where q, k and v are apart
    ("llama-7b", "lora-fa", QV, {"r": 16}, 4_194_304),
    ("llama-7b", "qalora", None, {"r": 64, "group": 32}, 89_309_184),
    ("llama-7b", "vera", None, {"r": 1024}, 1_589_248),
    ("llama-7b", "oft", ["attn.q"], {"b": 32}, 32 * 128 * 496),
    ("bert-base", "ia3", None, {}, 55_296),
    ("bert-base", "bitfit", None, {}, 102_912),
    ("bert-base", "ln-tuning", None, {}, 38_400),
    ("llama-7b", "ln-tuning", None, {}, 266_240),
    ("llama-7b", "layernorm", None, {}, 262_144),
    ("bert-base", "top-layers", None, {}, 7_087_872),
    ("t5-base", "cross-attention", None, {}, 28_311_552),
    ("bart-large", "cross-attention", None, {}, 12 * 4 * (1024 * 1024 + 1024)),
    ("bart-large", "cross-attention", None, {"norm": True}, 12 * (4 * (1024 * 1024 + 1024) + 2 * 1024)),
    ("bert-base", "houlsby", None, {"m": 64}, 2_379_264),
    ("bert-base", "parallel", None, {"m": 384}, 7_091_712),
    ("llama-7b", "lora", QV, {"r": 8}, 4_194_304),
    ("llama-7b", "lora", QV, {"r": 16}, 8_388_608),
    ("llama-7b", "lora", None, {"r": 64}, 159_907_840),
    ("llama-7b", "lora", ["embed"], {"r": 8}, 288_768),
    ("llama-7b", "dora", ["attn.q", "attn.k", "attn.v", "mlp.up", "mlp.down"], {"r": 32}, 56_975_360),
    ("llama-7b", "ia3", None, {}, 614_400),
    ("gpt2-medium", "prefix", None, {"tokens": 10}, 491_520),
    ("t5-base", "prompt", None, {"tokens": 100}, 76_800),
    ("t5-base", "ia3", None, {}, 129_024),
    ("bart-large", "mam", None, {"tokens": 30, "m": 512}, 27_414_528),
]


@functools.cache
def shell(name: str) -> Any:
    with torch.device("meta"):
        return CONFIGS[name]()


@pytest.mark.parametrize(("name", "method", "targets", "config", "number"), COUNTS)
def test_counts(name: str, method: str, targets: Any, config: dict[str, Any], number: int) -> None:
    adapter = adaptr.create(shell(name), method, targets, **config)
    assert count(adapter) == number
    assert all(tensor.is_meta for tensor in adapter.tensors.values())
    assert sum(adapter.tensors[key].numel() for key in trained_keys(adapter)) == number


def test_the_models_are_the_ones_that_are_meant() -> None:
    sizes = {name: sum(p.numel() for p in shell(name).parameters()) for name in ("bert-base", "llama-7b")}
    assert sizes == {"bert-base": 109_482_240, "llama-7b": 6_738_415_616}
