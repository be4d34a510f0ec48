"""Law 13 on named models: the numbers that the papers' formulas give, on the meta device."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import transformers as t

import adaptr
from adaptr import plugins
from adaptr.testing import count, trained_keys

QV = ["attn.q", "attn.v"]
SIX = [*QV, "attn.k", "attn.o", "mlp.up", "mlp.down"]
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
GROUPED = {"intermediate_size": 14_336, "num_key_value_heads": 8, "vocab_size": 128_256}
WIDE = {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "intermediate_size": 13_824}
GPT3 = {"hidden_size": 12_288, "num_hidden_layers": 96, "num_attention_heads": 96, "ffn_dim": 49_152}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_layers": 24}
SMALL = {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}
CONFIGS: dict[str, Any] = {
    "bert-base": lambda: t.BertModel(t.BertConfig()),
    "bert-large": lambda: t.BertModel(t.BertConfig(**LARGE)),
    "distilbert": lambda: t.DistilBertModel(t.DistilBertConfig()),
    "roberta-large": lambda: t.RobertaModel(t.RobertaConfig(**LARGE)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config()),
    "gpt3": lambda: t.OPTForCausalLM(t.OPTConfig(**GPT3)),
    "llama-13b": lambda: t.LlamaForCausalLM(t.LlamaConfig(**WIDE)),
    "llama-3-8b": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "t0-3b": lambda: t.T5ForConditionalGeneration(
        t.T5Config(d_model=2048, d_ff=5120, num_heads=32, vocab_size=32_128, **GATED)
    ),
    "t0-11b": lambda: t.T5ForConditionalGeneration(
        t.T5Config(d_model=4096, d_ff=10_240, num_heads=64, vocab_size=32_128, **GATED)
    ),
    "transformer-base": lambda: t.BartForConditionalGeneration(
        t.BartConfig(encoder_attention_heads=8, decoder_attention_heads=8, **SMALL)
    ),
    "llama-7b": lambda: t.LlamaForCausalLM(t.LlamaConfig()),
    "gpt2-medium": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=1024, n_layer=24, n_head=16)),
    "t5-base": lambda: t.T5ForConditionalGeneration(t.T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)),
    "bart-base": lambda: t.BartForConditionalGeneration(t.BartConfig(d_model=768, encoder_layers=6, decoder_layers=6)),
    "bart-large": lambda: t.BartForConditionalGeneration(t.BartConfig()),
}
#: The blocks that LST keeps of T5-base; its own count has the gates of the six others too, which nothing reads.
LST = [f"{side}coder.block.{n}" for side in ("en", "de") for n in (1, 2, 3, 5, 6, 7, 9, 10, 11)]
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
    ("bert-base", "fourierft", QV, {}, 24_000),
    ("bert-base", "waveft", QV, {}, 62_208),
    ("bert-base", "c3a", QV, {}, 55_296),
    ("bert-base", "vblora", QV, {}, 212_992),
    ("bert-base", "randlora", QV, {}, 460_800),
    ("bert-base", "gralora", QV, {}, 1_179_648),
    ("bert-base", "delora", QV, {}, 294_936),
    ("bert-base", "road", QV, {}, 18_432),
    ("bert-base", "miss", QV, {}, 1_179_648),
    ("bert-base", "bone", QV, {}, 1_179_648),
    ("bert-base", "hira", QV, {}, 1_179_648),
    ("bert-base", "pvera", QV, {}, 30_720),
    ("bert-base", "beft", None, {}, 9_216),
    ("bert-base", "deft", QV, {}, 294_912),
    ("bert-base", "peanut", QV, {}, 1_179_648),
    ("bert-base", "psoft", QV, {}, 13_440),
    ("bert-base", "tinylora", QV, {}, 1_536),
    ("bert-base", "unilora", QV, {}, 256),
    ("bert-base", "osf", QV, {}, 14_164_992),
    ("bert-base", "poly", QV, {}, 1_179_744),
    ("bert-base", "frod", QV, {}, 159_984),
    ("bert-base", "supertuning", QV, {}, 141_552),
    ("bert-base", "full", QV, {}, 24 * 768 * 768),
    ("bert-base", "rslora", QV, {"r": 8}, 294_912),
    ("bert-base", "lora-plus", QV, {"r": 8}, 294_912),
    ("bert-base", "pissa", QV, {"r": 8}, 294_912),
    ("bert-base", "olora", QV, {"r": 8}, 294_912),
    ("llama-7b", "qlora", None, {}, 159_907_840),
    ("llama-7b", "longlora", None, {}, 8_388_608),
    ("bert-base", "qpissa", QV, {"r": 8}, 294_912),
    ("bert-base", "loftq", QV, {"r": 8}, 294_912),
    ("bert-base", "lq-lora", QV, {"r": 8}, 294_912),
    ("bert-base", "corda", QV, {"r": 8}, 294_912),
    ("bert-base", "lora-ga", QV, {"r": 8}, 294_912),
    ("bert-base", "eva", QV, {"r": 8, "rho": 1.0}, 294_912),
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
    ("bert-base", "pfeiffer", None, {"m": 48}, 894_528),
    ("t5-base", "pfeiffer", None, {"m": 24}, 903_744),
    ("llama-7b", "loreft", None, {}, 2_097_408),
    ("llama-7b", "direft", None, {}, 2_097_408),
    ("llama-7b", "ladder", None, {}, 32 * 5_260_801 + 4_199_424),
    ("t5-base", "ladder", LST, {}, 3_878_706),
    ("t5-base", "ladder", None, {}, 5_097_240),
    ("bert-large", "attention-fusion", None, {}, 1_024),
    ("bert-base", "lets", None, {}, 12 * (4 * 10_617 + 2 * 42_467 + 1) + 768),  # 1.4 % of 109 million
    ("gpt2", "lin", None, {"m": 300}, 5_560_848),
    ("bert-base", "compacter", None, {}, 57_088),
    ("t5-base", "compacter", None, {}, 114_112),
    ("bert-base", "compacter-pp", None, {}, 28_576),
    ("t5-base", "compacter-pp", None, {}, 57_088),
    ("t5-base", "phm", None, {"n": 12}, 351_360),
    ("llama-7b", "lora", QV, {"r": 8}, 4_194_304),
    ("llama-7b", "lora", QV, {"r": 16}, 8_388_608),
    ("llama-7b", "lora", None, {"r": 64}, 159_907_840),
    ("llama-7b", "lora", ["embed"], {"r": 8}, 288_768),
    ("llama-7b", "dora", ["attn.q", "attn.k", "attn.v", "mlp.up", "mlp.down"], {"r": 32}, 56_975_360),
    ("llama-7b", "ia3", None, {}, 614_400),
    ("t5-base", "mpt", None, {"tokens": 100}, 77_668),
    ("bart-base", "ipt", None, {"tokens": 100, "intrinsic": 250}, 250),
    ("gpt2", "cpt", None, {"ids": [5] * 10}, 10 * 768),
    ("gpt2-medium", "cartridge", None, {"tokens": 10}, 491_520),
    ("gpt2-medium", "prefix", None, {"tokens": 10, "mlp": 512}, 25_750_016),
    ("bert-base", "p-tuning", None, {"tokens": 20}, 7_090_176 + 1_181_184 + 20 * 768),
    ("bert-base", "p-tuning", None, {"tokens": 20, "encoder": "none"}, 20 * 768),
    ("bert-base", "p-tuning-v2", None, {}, 368_640),
    ("roberta-large", "p-tuning-v2", None, {"tokens": 128}, 6_291_456),
    ("llama-7b", "llama-adapter", None, {}, 1_229_760),
    ("llama-7b", "scale-shift", None, {"shift": "always"}, 32 * 2 * (5 * 4096 + 2 * 11_008)),
    ("llama-7b", "llama-adapter-v2", None, {}, 31 * (10 * 4096 + 32) + 32 * 2 * (5 * 4096 + 2 * 11_008) + 266_240),
    ("bert-base", "scale-shift", None, {}, 2 * (12 * (5 * 768 + 3072) + 768)),
    ("llama-7b", "llama-adapter", None, {"gate": "layer"}, 1_228_830),
    ("gpt2-medium", "prefix", None, {"tokens": 10}, 491_520),
    ("t5-base", "prompt", None, {"tokens": 100}, 76_800),
    ("t5-base", "ia3", None, {}, 129_024),
    ("bert-base", "adamix", None, {}, 2_223_360),
    ("gpt2-medium", "adamix-lora", ["attn.qkv"], {}, 24 * (8 * 4 * 1024 + 4 * 3072)),
    ("gpt2-medium", "adamix-lora", ["attn.qkv"], {"experts": 1}, 24 * 4 * (1024 + 3072)),
    ("bert-base", "residual-series", None, {}, 12 * 2 * 768**2),
    ("bert-base", "adamix", None, {"experts": 1}, 894_528),
    ("bert-base", "adapterdrop", None, {"drop": 6}, 447_264),
    ("t5-base", "adapterdrop", None, {"inner": "houlsby", "fields": {"m": 24}, "drop": 5}, 1_101_984 - 47_616),
    ("bert-base", "hybrid", None, {"methods": ["lora", "prefix"], "fields": {"lora": {"targets": QV}}}, 479_232),
    ("bert-base", "unipelt", None, {}, 1_373_760 + 36_912),
    ("bert-base", "mad-x", None, {}, 7_387_776),
    ("bart-large", "mam", None, {"tokens": 30, "m": 512}, 27_414_528),
    ("bert-base", "glora", QV, {"r": 8}, 737_520),
    ("bert-base", "did", None, {"d": 1861}, 1861),
    ("bert-base", "intrinsic-said", None, {"d": 1608}, 1608),
    ("bert-base", "alora", QV, {"r": 8, "invocation": [3]}, 294_912),
    ("bert-base", "vera", QV, {"r": 1024}, 43_008),
    ("bert-large", "vera", QV, {"r": 256}, 61_440),
    ("llama-13b", "vera", None, {"r": 1024}, 2_416_640),
    (
        "bert-base",
        "ia3",
        [r"re:.*(key|value|output\.dense)"],
        {},
        64_512,
    ),  # PEFT's default, which has more than the paper
    ("t0-3b", "ia3", None, {}, 540_672),
    ("t0-11b", "ia3", None, {}, 1_081_344),
    ("bert-large", "bitfit", None, {}, 272_384),
    ("bert-large", "ln-tuning", None, {}, 100_352),
    ("transformer-base", "cross-attention", None, {}, 6_303_744),
    ("bert-base", "lora", SIX, {"r": 1}, 165_888),
    ("gpt2-medium", "lora", ["attn.qkv"], {"r": 4}, 393_216),
    ("gpt3", "lora", QV, {"r": 1}, 4_718_592),
    ("gpt3", "lora", QV, {"r": 8}, 37_748_736),
    ("llama-3-8b", "lora", QV, {"r": 16}, 6_815_744),
    ("llama-7b", "lora", [*QV, "attn.k", "attn.o"], {"r": 8}, 8_388_608),
    ("llama-7b", "lora", [*QV, "attn.k", "mlp.up", "mlp.down"], {"r": 32}, 56_098_816),
    ("llama-7b", "dora", [*QV, "attn.k", "mlp.up", "mlp.down"], {"r": 16}, 28_925_952),
    ("llama-7b", "hra", QV, {"r": 32}, 8_388_608),
    ("gpt2", "tied-lora", None, {"r": 8}, 52_320),
    ("llama-7b", "tied-lora", None, {"r": 32}, 918_528 + 2 * 32 * 32),
    ("llama-7b", "tied-lora", None, {"r": 128}, 2_494_464 + 2 * 32 * 128),
]
#: The same in per cent of all of a model's numbers, as it is said. KronA's is of what it and all norms train.
SHARES = [
    ("t5-base", 3_878_706, "1.74"),
    ("bert-base", 102_912, "0.094"),
    ("bert-large", 272_384, "0.081"),
    ("bert-base", 38_400, "0.035"),
    ("bert-large", 100_352, "0.030"),
    ("llama-7b", 266_240, "0.0040"),
    ("llama-7b", 8_388_608, "0.1245"),
    ("llama-7b", 56_098_816, "0.8325"),
    ("llama-7b", 56_975_360, "0.8455"),
    ("llama-7b", 28_925_952, "0.4293"),
    ("llama-7b", 159_907_840, "2.37"),
    ("t0-3b", 540_672, "0.019"),
    ("t0-11b", 1_081_344, "0.01"),
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


@pytest.mark.parametrize(("name", "number", "percent"), SHARES)
def test_shares(name: str, number: int, percent: str) -> None:
    assert any((row[0], row[4]) == (name, number) for row in COUNTS)
    digits = len(percent.partition(".")[2])
    assert f"{100 * number / sum(p.numel() for p in shell(name).parameters()):.{digits}f}" == percent


def test_a_decoder_of_prompts_is_counted_apart_from_what_trains() -> None:
    """IPT's decoder, of what its auto-encoder has in all, 78,452,218."""
    adapter = adaptr.create(shell("bart-base"), "ipt", tokens=100, intrinsic=250)
    decoder = sum(tensor.numel() for tensor in adapter.tensors.values()) - 250
    assert decoder + 100 * 768 * 250 + 250 == 78_452_218


def test_whole_parameters_beside_a_method_are_counted() -> None:
    """LongLoRA's table and norms, KronA's with the norms, and what each of both alone is."""
    llama, t5 = shell("llama-7b"), shell("t5-base")
    sizes = [sum(p.numel() for p in model.parameters()) for model in (llama, t5)]
    alone = adaptr.create(llama, "lora", [*QV, "attn.k", "attn.o"], r=8)
    table, norms = (count(adaptr.create(llama, "lora", QV, also=one, r=1)) - 524_288 for one in ("embed", "norm"))
    assert (table, norms) == (131_072_000, 266_240)
    assert f"{100 * table / sizes[0]:.3f}" == "1.945"
    both = adaptr.create(llama, "lora", [*QV, "attn.k", "attn.o"], also=["embed", "norm"], r=8)
    assert count(both) == count(alone) + table + norms
    krona = count(adaptr.create(t5, "krona", also="norm"))
    assert krona == 158_208
    assert f"{100 * krona / sizes[1]:.3f}" == "0.071"


def test_masks_keep_a_share_of_all_that_they_train() -> None:
    """FISH's half a per cent of BERT, diff pruning's of BERT-large, and the rows of FAR in DistilBERT."""
    assert int(0.005 * sum(p.numel() for p in shell("bert-base").parameters())) == 547_411
    for name, method, kept in (("bert-base", "fish-mask", 0.005), ("bert-large", "diff-pruning", 0.005)):
        made = adaptr.create(shell(name), method, share=kept)
        own = plugins.method(method)
        trained = sum(target.shape[0] * target.shape[1] for target in made.targets.values())
        changed = sum(own.changes(target, own.config(target.config)) for target in made.targets.values())
        assert changed == pytest.approx(kept * trained, rel=1e-3)
    made = adaptr.create(shell("distilbert"), "far")
    assert count(made) == 28_334_592


def test_the_models_are_the_ones_that_are_meant() -> None:
    sizes = {name: sum(p.numel() for p in shell(name).parameters()) for name in ("bert-base", "llama-7b")}
    assert sizes == {"bert-base": 109_482_240, "llama-7b": 6_738_415_616}
