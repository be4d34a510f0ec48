"""`adaptr.plan`: memory, cards, advice, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import adaptr
from adaptr.errors import BadConfig, CheckpointError, TargetNotFound, UnknownMethod, UsageError
from adaptr.planning import before
from adaptr.planning.machines import CARDS, largest, memory
from adaptr.planning.plan import Plan, Way
from adaptr.training.recipe import Recipe
from planning.configs import BERT, LLAMA_2_7B, SMALL, SMOLLM2

GIB = 2**30


def way(found: Plan, method: str, held: str = "16-bit") -> Way:
    return next(one for one in found.ways if (one.estimate.method, one.held) == (method, held))


def test_the_memory_of_a_7b_by_hand() -> None:
    found = adaptr.plan(LLAMA_2_7B, "lora", config={"r": 16}, targets=["attn.q", "attn.v"])
    one = way(found, "lora").estimate.memory
    assert (one.weights, one.gradients, one.optimizer) == (2 * 6_738_415_616, 4 * 8_388_608, 8 * 8_388_608)
    whole = way(found, "full fine-tuning").estimate.memory
    assert (whole.weights, whole.gradients, whole.optimizer) == tuple(n * 6_738_415_616 for n in (4, 4, 8))
    linear, rest = 6_476_005_376, 6_738_415_616 - 6_476_005_376
    scales = linear // 64 + 4 * linear // (64 * 256)
    assert way(found, "lora", "nf4").estimate.memory.weights == pytest.approx(linear / 2 + scales + 2 * rest, abs=2)


def test_the_peak_has_more_than_its_fixed_part_and_less_than_all() -> None:
    for one in adaptr.plan(SMALL).ways:
        found = one.estimate.memory
        parts = (found.weights, found.adapter, found.gradients, found.optimizer, found.activations, found.logits)
        assert found.fixed < found.peak <= sum(parts) + 2 * found.temporary


@pytest.mark.parametrize("method", ["lora", "prompt", "loha"])
def test_memory_grows_with_batch_and_length(method: str) -> None:
    peaks = [
        way(adaptr.plan(SMALL, method, batch=batch, length=length), method).estimate.memory.peak
        for batch, length in ((1, 64), (2, 64), (2, 128), (8, 128))
    ]
    assert peaks == sorted(set(peaks))


def test_checkpointing_costs_less() -> None:
    plain, twice = (adaptr.plan(SMOLLM2, "lora", batch=4, checkpointing=said) for said in (False, True))
    assert way(twice, "lora").estimate.memory.activations < way(plain, "lora").estimate.memory.activations / 4


def test_a_classifier_has_no_logits_of_the_vocabulary() -> None:
    assert way(adaptr.plan(SMALL, "lora", task="classification"), "lora").estimate.memory.logits == 0


def test_a_head_that_the_base_has_not_is_not_counted_and_said() -> None:
    said = "no head for `classify`: a fresh one is trained whole beside the adapter, about"
    assert any(said in note for note in adaptr.plan(SMALL, "lora", task="classification").notes)
    assert not adaptr.plan(SMALL, "lora").notes
    headed = {**SMALL, "architectures": ["LlamaForSequenceClassification"]}
    assert not any(said in note for note in adaptr.plan(headed, "lora", task="classification").notes)


def test_overhead() -> None:
    found = adaptr.plan(SMOLLM2, ["lora", "prefix", "prompt"], length=100)
    lora, prefix, prompt = (way(found, name).estimate.overhead for name in ("lora", "prefix", "prompt"))
    assert (lora.mergeable, lora.swappable, lora.context) == (True, True, 0)
    assert not way(adaptr.plan(SMOLLM2, "mam"), "mam").estimate.overhead.mergeable  # none of its parts is
    assert (prefix.mergeable, prefix.swappable, prefix.context) == (False, False, 10)
    assert prefix.cache == 10 * 30 * 2 * 3 * 64
    assert prompt.share == pytest.approx(20 / 100, rel=0.05)
    assert lora.flops == 2 * adaptr.plan(SMOLLM2, "lora").ways[0].estimate.trained


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    from adaptr.planning.estimate import candidate
    from adaptr.planning.foundation import foundation

    found = adaptr.plan(LLAMA_2_7B, "lora")
    one = candidate(foundation(LLAMA_2_7B), "lora")
    for fit, card in zip(way(found, "lora").fits, CARDS, strict=True):
        peaks = [one.memory(dataclasses.replace(found.ways[0].estimate.setting, batch=b or 1)).peak
                 for b in (fit.batch, fit.batch + 1)]  # fmt: skip
        assert not fit.batch or peaks[0] <= card.room < peaks[1]


def test_a_7b_on_common_cards() -> None:
    found = adaptr.plan(LLAMA_2_7B, "lora")
    lora, quantised, whole = (
        {fit.card: fit.batch for fit in way(found, name, held).fits}
        for name, held in (("lora", "16-bit"), ("lora", "nf4"), ("full fine-tuning", "16-bit"))
    )
    assert not lora["RTX 3060"]
    assert quantised["RTX 3060"] >= 1
    assert lora["RTX 4090"] >= 1
    assert not whole["A100 80"]
    assert whole["MI300X"] >= 1


def test_largest_of_none_and_of_many() -> None:
    assert largest(9, lambda batch: 10 * batch) == 0
    assert [largest(room, lambda batch: 10 * batch) for room in (10, 19, 20, 77, 10**9)] == [1, 1, 2, 7, 1024]


# ---------------------------------------------------------------- advice


def advised(**wishes: Any) -> Plan:
    return adaptr.plan(LLAMA_2_7B, **wishes)


def test_what_is_asked_for_filters_with_a_reason_each() -> None:
    found = advised(memory="12GB", no_latency=True, swappable=True, task="classification", examples=500)
    fits = [one.method for one in found.advice if one.fits]
    assert fits[0] == "lora"
    assert not {"prefix", "prompt", "houlsby", "full"} & set(fits)
    assert all(one.reasons for one in found.advice)
    assert "merged" in next(one for one in found.advice if one.method == "houlsby").reasons[0]


def test_more_than_its_numbers_hold_is_said_and_ranked_behind() -> None:
    few, many = advised(examples=100), advised(examples=1_000_000)
    place = {name: [one.method for one in found.advice].index("ia3") for name, found in (("few", few), ("many", many))}
    assert place["few"] < place["many"]
    assert any("too little for" in reason for one in many.advice if one.method == "ia3" for reason in one.reasons)


def test_what_fits_nowhere_says_what_it_needs() -> None:
    found = advised(memory="1GB")
    assert not any(one.fits for one in found.advice)
    assert all("GiB at the least" in one.reasons[-1] for one in found.advice)


def test_each_line_is_a_command_of_recipe_fields() -> None:
    fields = {f.name for f in dataclasses.fields(Recipe)}
    short = {"o", "set"}
    lines = [one.line for one in advised(memory="12GB", examples=500).advice if one.fits]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["adaptr", "train"]
        said = {word.lstrip("-").replace("-", "_") for word in words[3:] if word.startswith("-")}
        assert said - short <= fields


# ---------------------------------------------------------------- before a training


def test_before_reads_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SMOLLM2, "dtype": "bfloat16"}))
    recipe = Recipe(str(tmp_path), "data.jsonl", config={"r": 16}, batch=2, length=64, device="cuda", base_quant="nf4")
    found = before(recipe)
    assert found.setting.dtype == "bf16"
    assert found.trained == 4_884_480
    assert found.memory.weights < 2 * found.base


# ---------------------------------------------------------------- where the configuration lies, and what is refused


def test_a_folder_a_file_and_its_content_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    found = [adaptr.plan(base, "lora").ways for base in (str(tmp_path), tmp_path / "config.json", SMALL)]
    assert found[0] == found[1] == found[2]


def test_what_no_table_has_says_that_transformers_built_it() -> None:
    found = adaptr.plan(BERT, "lora", length=16)
    assert "meta device" in found.notes[0]
    assert way(found, "lora").estimate.trained > 0


@pytest.mark.parametrize("config", [
    {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    {"model_type": "llama", "hidden_size": 32},
    {"model_type": "bert"},
    {"hidden_size": 32},
    {},
])  # fmt: skip
def test_a_configuration_without_sizes_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"says no (width|depth)|has no `model_type`"):
        adaptr.plan(config, "lora")


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(adaptr.AdaptrError):
        adaptr.plan(tmp_path)
    with pytest.raises(adaptr.AdaptrError, match=r"nothing at|config"):
        adaptr.plan(tmp_path / "nowhere")


@pytest.mark.parametrize(("error", "said"), [
    (UnknownMethod, {"methods": "loar"}),
    (BadConfig, {"methods": "lora", "config": {"rank": 4}}),
    (BadConfig, {"methods": "lora", "config": {"r": 0}}),
    (TargetNotFound, {"methods": "lora", "targets": ["attn.z"]}),
    (TargetNotFound, {"methods": "lora", "also": ["haed"]}),
    (UsageError, {"memory": "lots"}),
    (UsageError, {"memory": "-4GB"}),
    (UsageError, {"memory": "12 parsecs"}),
    (UsageError, {"memory": "nan"}),
    (UsageError, {"memory": 0}),
    (UsageError, {"batch": 0}),
    (UsageError, {"length": 0}),
    (UsageError, {"examples": 0}),
    (UsageError, {"dtype": "fp12"}),
    (UsageError, {"optimizer": "adam"}),
    (UsageError, {"task": "poetry"}),
    (UsageError, {"device": "tpu"}),
])  # fmt: skip
def test_what_is_asked_wrongly_is_refused(error: type[Exception], said: dict[str, Any]) -> None:
    with pytest.raises(error):
        adaptr.plan(SMALL, **said)


def test_near_names_of_methods() -> None:
    with pytest.raises(UnknownMethod, match="lora"):
        adaptr.plan(SMALL, "loar")


@pytest.mark.parametrize(("text", "gib"), [("12GB", 12), ("12 GiB", 12), ("12", 12), ("0.5g", 0.5), ("512MB", 0.5),
                                           ("rtx 4090", 24), ("1TB", 1024)])  # fmt: skip
def test_memory_as_people_say_it(text: str, gib: float) -> None:
    assert memory(text) == gib * GIB
