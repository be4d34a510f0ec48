"""The judge: which rule decides, what is unknown and why, and what a tensor is multiplied by."""

from __future__ import annotations

import pytest

from adaptr.serving.facts import ELSEWHERE, THERE, TOWER, UNEXPECTED, UNKNOWN, Facts
from adaptr.serving.profile import profile
from adaptr.serving.seen import Base, Seen
from serving.folders import ATTENTION, FEED, blocks, config, judged, lora, verdicts

WHOLE = blocks("model.layers", ATTENTION + FEED)


@pytest.mark.parametrize("server", ["vllm", "sglang", "lorax", "tgi", "tensorrt-llm", "onnxruntime-genai"])
def test_plain_lora_on_every_layer_of_a_llama_is_applied(server: str) -> None:
    found = judged(server, lora(WHOLE))
    assert verdicts(found) == {"applied"}
    assert all(one.sources for one in found)


@pytest.mark.parametrize("server", ["vllm", "sglang", "lorax", "tgi"])
def test_without_a_base_or_with_one_of_no_entry_it_is_unknown_and_said_why(server: str) -> None:
    assert {one.says for one in judged(server, lora(WHOLE), None)} == {
        "which layers take part depends on the base: give it"
    }
    assert {one.says for one in judged(server, lora(WHOLE), "OddForCausalLM")} == {
        "the profile has nothing on OddForCausalLM"
    }
    assert verdicts(judged(server, lora(WHOLE), "OddForCausalLM")) == {"unknown"}


def test_a_layer_of_which_nothing_is_said_is_unknown() -> None:
    found = judged("vllm", lora([*WHOLE, "lm_head"]), "Gemma2ForCausalLM")
    assert {one.module for one in found if one.verdict == "unknown"} == {"lm_head"}
    assert "does not say whether `lm_head` takes part" in found[-1].says


def test_layers_that_the_base_does_not_have_are_ignored() -> None:
    found = judged("vllm", lora(blocks("model.layers", ATTENTION, (1, 2))))
    assert {one.tensor.split(".")[4]: one.verdict for one in found} == {"1": "applied", "2": "ignored"}


def test_one_tensor_can_refuse_them_all() -> None:
    found = judged("vllm", lora([*WHOLE, "model.layers.0.mlp.odd_proj"]))
    assert verdicts(found) == {"refused"}
    assert {one.says for one in found} == {
        "`model.layers.0.mlp.odd_proj`: LlamaForCausalLM has no layer for LoRA that ends in `odd_proj`"
    }


def test_what_is_refused_without_a_base_is_known_without_one() -> None:
    assert verdicts(judged("vllm", lora(WHOLE), None, use_dora=True)) == {"refused"}


def test_where_a_module_is() -> None:
    paths = {
        "model.language_model.layers.0.self_attn.q_proj": THERE,
        "model.layers.0.self_attn.q_proj": ELSEWHERE,
        "model.visual.blocks.0.attn.qkv": TOWER,
        "model.language_model.layers.0.self_attn.odd": UNKNOWN,
    }
    seen = Seen(config(), lora(paths))
    facts = Facts(seen, profile("vllm"), Base("Qwen3VLForConditionalGeneration", 2), {})
    assert {one.path: facts.place(one) for one in facts.tensors} == paths
    odd = Facts(Seen(config(), lora(["model.odd"])), profile("vllm"), Base("LlamaForCausalLM"), {})
    assert odd.place(odd.tensors[0]) == UNEXPECTED


@pytest.mark.parametrize("fields", [{"alpha_pattern": {"q_proj": 64}}, {"rank_pattern": {"q_proj": 4}}])
def test_patterns_that_no_server_reads_alter(fields: dict[str, object]) -> None:
    tensors = lora(blocks("model.layers", ATTENTION[1:])) | lora(
        blocks("model.layers", ATTENTION[:1]), 4 if "rank_pattern" in fields else 8
    )
    found = judged("vllm", tensors, **fields)
    assert {one.module.rpartition(".")[2] for one in found if one.verdict == "altered"} == {"q_proj"}
    assert verdicts(found) == {"applied", "altered"}


def test_the_words_have_both_numbers() -> None:
    found = judged("sglang", lora(WHOLE), use_rslora=True)
    assert verdicts(found) == {"altered"}
    assert found[0].says.startswith("it is multiplied by 2 and not by 5.657")


def test_a_pattern_that_changes_nothing_alters_nothing() -> None:
    assert verdicts(judged("vllm", lora(WHOLE), rank_pattern={"q_proj": 8}, alpha_pattern={"q_proj": 16})) == {
        "applied"
    }


def test_ranks_are_held_against_what_the_server_is_told() -> None:
    tensors = lora(WHOLE, 32)
    assert verdicts(judged("vllm", tensors, r=32)) == {"applied"}
    assert verdicts(judged("vllm", tensors, r=32, options={"max_lora_rank": 16})) == {"refused"}
    assert verdicts(judged("vllm", lora(WHOLE, 1024), r=1024)) == {"refused"}


def test_keys_without_peft_prefix_are_found_by_some() -> None:
    tensors = lora(WHOLE, prefix="")
    assert verdicts(judged("vllm", tensors)) == {"applied"}
    assert verdicts(judged("lorax", tensors)) == {"ignored"}


def test_a_prefix_that_stands_twice_is_taken_off_by_some() -> None:
    tensors = lora(WHOLE, prefix="base_model.model.base_model.model.")
    assert verdicts(judged("vllm", tensors)) == {"applied"}
    assert verdicts(judged("lorax", tensors)) == {"ignored"}


def test_several_ranks_of_a_kind_are_filled_up_or_refused() -> None:
    q = blocks("model.layers", ATTENTION[:1])
    assert verdicts(judged("lorax", lora(q[:1], 4) | lora(q[1:], 8), r=8, rank_pattern={"layers.0": 4})) != {"refused"}
    assert verdicts(judged("lorax", lora(q[:1], 8) | lora(q[1:], 32), r=8, rank_pattern={"layers.1": 32})) == {
        "refused"
    }


def test_a_kind_that_is_missing_in_a_block_is_left_out_in_all() -> None:
    found = judged("lorax", lora(WHOLE[:-1]))
    assert {one.module.rpartition(".")[2] for one in found if one.verdict == "ignored"} == {"down_proj"}
    assert "missing in block 1" in next(one.says for one in found if one.verdict == "ignored")
