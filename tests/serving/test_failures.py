"""Adapters that people had trouble with at servers, as their threads describe them: each is classified as it went.

Where a thread shows no cause that can be told from the adapter, the verdict has to be unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from serving.folders import ATTENTION, FEED, RANK, WIDTH, blocks, judged, lora

TEXT, INNER = "model.layers", "model.language_model.layers"
DENSE = ATTENTION + FEED
QWEN3_VL, QWEN3_5 = "Qwen3VLForConditionalGeneration", "Qwen3_5ForConditionalGeneration"
QWEN3_5_MOE = "Qwen3_5MoeForConditionalGeneration"
ONE, EXPERTS = "model.layers.0.self_attn.q_proj", "mlp.experts"
STACKED = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}


@dataclass(frozen=True)
class Failure:
    """`verdicts`: those on any of its tensors, `rule`: what decides, `config`: the adapter's, `told`: the server's."""

    thread: str
    server: str
    base: str
    tensors: dict[str, tuple[int, ...]]
    verdicts: set[str]
    rule: str
    config: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


def of(thread: str, server: str, base: str, modules: list[str], verdict: str, rule: str, **said: Any) -> Failure:
    return Failure(thread, server, base, lora(modules), {verdict}, rule, **said)


def extra(*keys: str, shape: tuple[int, ...] = (WIDTH,)) -> dict[str, tuple[int, ...]]:
    return lora([ONE]) | dict.fromkeys(keys, shape)


FAILURES = [
    # loaded, and nothing came of it
    of(
        "vllm-project/vllm#34186",
        "vllm@0.15.1",
        "Gemma3ForConditionalGeneration",
        blocks(TEXT, DENSE),
        "ignored",
        "elsewhere",
    ),
    of("vllm-project/vllm#48019", "vllm@0.24", QWEN3_VL, blocks(TEXT, DENSE), "ignored", "elsewhere"),
    of("vllm-project/vllm PR#39278", "vllm@0.19", QWEN3_5, blocks(TEXT, ["mlp.down_proj"]), "ignored", "elsewhere"),
    of("vllm-project/vllm PR#39369", "vllm@0.19", QWEN3_5, blocks(TEXT, ATTENTION), "ignored", "elsewhere"),
    of(
        "vllm-project/vllm-ascend PR#13489",
        "vllm@0.26",
        QWEN3_5,
        blocks(TEXT, ["linear_attn.out_proj"]),
        "ignored",
        "elsewhere",
    ),
    of(
        "vllm-project/vllm#34591",
        "vllm@0.15.1",
        "PixtralForConditionalGeneration",
        blocks(INNER, DENSE),
        "ignored",
        "elsewhere",
    ),
    of(
        "vllm-project/vllm#55193",
        "vllm@0.28.0",
        "Qwen2ForCausalLM",
        blocks(TEXT, ["mlp.down_proj"]),
        "ignored",
        "not-told",
        told={"lora_target_modules": ["qkv_proj"]},
    ),
    of(
        "vllm-project/vllm PR#41384",
        "vllm@0.19",
        QWEN3_5_MOE,
        blocks(TEXT, [EXPERTS, f"{EXPERTS}.base_layer"]),
        "ignored",
        "experts-stacked",
        config=STACKED,
    ),
    of(
        "vllm-project/vllm#23796",
        "vllm@0.10",
        "Qwen2_5_VLForConditionalGeneration",
        ["model.visual.blocks.0.attn.proj"],
        "ignored",
        "tower",
    ),
    of("vllm-project/vllm PR#26674", "vllm@0.11", QWEN3_VL, ["model.visual.merger.linear_fc1"], "ignored", "tower"),
    of(
        "sgl-project/sglang PR#25528",
        "sglang@0.5.12",
        "Lfm2MoeForCausalLM",
        blocks(TEXT, ["feed_forward.experts"]),
        "ignored",
        "stacked-experts",
        config=STACKED,
    ),
    of(
        "sgl-project/sglang PR#30499",
        "sglang@0.5.12",
        QWEN3_5,
        blocks(INNER, ["linear_attn.in_proj_b"]),
        "ignored",
        "gates-of-linear-attention",
    ),
    of(
        "huggingface/text-generation-inference#2441", "tgi@2.4", "LlamaForCausalLM", ["lm_head"], "ignored", "elsewhere"
    ),
    # loaded, of another strength
    Failure(
        "vllm-project/vllm#55545",
        "vllm@0.28",
        "Qwen3MoeForCausalLM",
        lora(blocks(TEXT, [f"{EXPERTS}.0.up_proj"])),
        {"altered"},
        "rslora-experts",
        {"use_rslora": True},
    ),
    Failure(
        "vllm-project/vllm-omni PR#6565",
        "vllm@0.27",
        "LlamaForCausalLM",
        lora([f"{TEXT}.0.self_attn.o_proj"], 4) | lora([ONE]),
        {"applied", "altered"},
        "patterns",
        {"rank_pattern": {"o_proj": 4}},
    ),
    of(
        "sgl-project/sglang#40835",
        "sglang",
        "LlamaForCausalLM",
        blocks(TEXT, DENSE),
        "altered",
        "scale",
        config={"use_rslora": True},
    ),
    of(
        "vllm-project/vllm PR#19710",
        "vllm",
        "LlamaForCausalLM",
        blocks(TEXT, ATTENTION),
        "altered",
        "alora",
        config={"alora_invocation_tokens": [9, 3]},
    ),
    of(
        "sgl-project/sglang#16942",
        "sglang",
        "LlamaForCausalLM",
        blocks(TEXT, ATTENTION),
        "altered",
        "alora",
        config={"alora_invocation_tokens": [9, 3]},
    ),
    # refused, some long after the server had started
    of("vllm-project/vllm#10849", "vllm", "LlamaForCausalLM", [ONE], "refused", "dora", config={"use_dora": True}),
    of(
        "vllm-project/vllm#9280",
        "vllm@0.12",
        "Qwen2ForCausalLM",
        [ONE],
        "refused",
        "modules-to-save",
        config={"modules_to_save": ["lm_head"]},
    ),
    Failure(
        "vllm-project/vllm#6983",
        "vllm",
        "LlamaForCausalLM",
        extra(f"base_model.model.{ONE}.lora_magnitude_vector"),
        {"refused"},
        "key",
    ),
    Failure(
        "vllm-project/vllm#7441", "vllm", "LlamaForCausalLM", extra("base_model.model.score.weight"), {"refused"}, "key"
    ),
    Failure(
        "vllm-project/vllm#36501",
        "vllm",
        "LlamaForCausalLM",
        extra("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", shape=(4, WIDTH)),
        {"refused"},
        "key",
    ),
    Failure(
        "areal-project/AReaL PR#1579",
        "vllm@0.26",
        "Qwen2ForCausalLM",
        {f"{ONE}.lora_A.default.weight": (RANK, WIDTH)},
        {"refused"},
        "key",
    ),
    Failure(
        "vllm-project/vllm#28640",
        "vllm@0.11.1",
        QWEN3_VL,
        {f"base_model.model.{INNER}.0.self_attn.q_proj.lora_A.weight": (0,)},
        {"refused"},
        "shapes",
    ),
    of(
        "vllm-project/vllm#2847",
        "vllm@0.10",
        "LlamaForCausalLM",
        [ONE],
        "refused",
        "rank-told",
        told={"max_lora_rank": 4},
    ),
    of(
        "vllm-project/vllm#18120",
        "vllm@0.10",
        "Qwen3MoeForCausalLM",
        blocks(TEXT, [f"{EXPERTS}.0.up_proj"]),
        "refused",
        "experts-early",
    ),
    of(
        "vllm-project/vllm PR#52194",
        "vllm@0.26",
        QWEN3_5_MOE,
        blocks(INNER, [EXPERTS]),
        "refused",
        "experts-stacked",
        config=STACKED,
    ),
    of(
        "thinking-machines-lab/tinker-cookbook#525",
        "vllm@0.18",
        QWEN3_5,
        blocks(INNER, ["linear_attn.in_proj_q"]),
        "refused",
        "split-in-proj",
    ),
    of(
        "sgl-project/sglang#25913",
        "sglang@0.5.12",
        "Gemma4ForConditionalGeneration",
        blocks(INNER, ATTENTION),
        "refused",
        "expression",
        config={"target_modules": r".*language_model\..*\.(q_proj|v_proj)"},
    ),
    of(
        "sgl-project/sglang PR#28199",
        "sglang@0.5.12",
        "Gemma4ForConditionalGeneration",
        blocks(INNER, ATTENTION[:2]),
        "refused",
        "no-value",
    ),
    # what no source explains from the adapter
    of("vllm-project/vllm#41754", "vllm@0.20", "Gemma4ForConditionalGeneration", blocks(INNER, DENSE), "unknown", ""),
    of(
        "vllm-project/vllm#45771",
        "vllm@0.24",
        "Qwen2AudioForConditionalGeneration",
        ["multi_modal_projector.linear"],
        "unknown",
        "",
    ),
    Failure(
        "vllm-project/vllm#32599",
        "vllm@0.13",
        "LlamaForCausalLM",
        extra("base_model.model.lm_head.base_layer.weight", shape=(64, WIDTH)),
        {"applied", "unknown"},
        "base-table",
    ),
    # what went well, or does since
    of("vllm-project/vllm PR#48022", "vllm@0.24", QWEN3_VL, blocks(INNER, DENSE), "applied", ""),
    of("vllm-project/vllm PR#37877", "vllm@0.18", "Qwen3ForCausalLM", blocks(TEXT, DENSE), "applied", ""),
    of("vllm-project/vllm#3044", "vllm", "GemmaForCausalLM", blocks(TEXT, DENSE), "applied", ""),
    of(
        "NVIDIA/TensorRT-LLM#1668",
        "tensorrt-llm",
        "LlamaForCausalLM",
        blocks(TEXT, DENSE),
        "applied",
        "",
        config={"use_rslora": True},
    ),
    of(
        "predibase/lorax PR#299",
        "lorax",
        "MistralForCausalLM",
        blocks(TEXT, DENSE),
        "applied",
        "",
        config={"use_rslora": True},
    ),
]


def test_there_are_thirty_that_failed() -> None:
    failed = [one.thread for one in FAILURES if one.verdicts != {"applied"}]
    assert len(failed) == len(set(failed)) >= 30


@pytest.mark.parametrize("failure", FAILURES, ids=[one.thread for one in FAILURES])
def test_it_is_classified_as_it_went(failure: Failure) -> None:
    found = judged(failure.server, failure.tensors, failure.base, options=failure.told, **failure.config)
    assert {one.verdict for one in found} == failure.verdicts
    assert failure.rule in {one.rule for one in found}


def test_the_silent_ones_of_one_name_apply_under_the_other() -> None:
    """Each text adapter that a server of several parts ignores is applied where its keys name the part."""
    for base in (QWEN3_VL, QWEN3_5, "Gemma3ForConditionalGeneration"):
        assert {one.verdict for one in judged("vllm", lora(blocks(INNER, DENSE)), base)} == {"applied"}
    assert {one.verdict for one in judged("vllm", lora(blocks(TEXT, DENSE)), "Qwen2VLForConditionalGeneration")} == {
        "applied"
    }
