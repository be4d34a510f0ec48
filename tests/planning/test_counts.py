"""Counts of a configuration alone: the worked ones, those of adapters that are made, and PEFT's."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import Any

import pytest

import adaptr
from adaptr import plugins
from adaptr.checkpoint.built import imagined
from adaptr.errors import AdaptrError
from adaptr.planning.counts import counted, everything
from adaptr.planning.foundation import foundation
from adaptr.testing import count
from planning.configs import BERT, LLAMA_2_7B, MISTRAL_7B, SMALL, SMOLLM2

QV, QKVO = ["attn.q", "attn.v"], ["attn.q", "attn.k", "attn.v", "attn.o"]
WORKED = [
    (LLAMA_2_7B, QV, 8_388_608),
    (LLAMA_2_7B, QKVO, 16_777_216),
    (MISTRAL_7B, QKVO, 13_631_488),
]


@pytest.mark.parametrize(("config", "targets", "number"), WORKED)
def test_lora_of_rank_16(config: dict[str, Any], targets: list[str], number: int) -> None:
    assert counted(foundation(config), "lora", {"r": 16}, targets).trained == number


def test_the_share_of_a_7b_is_an_eighth_of_a_per_cent() -> None:
    base = foundation(LLAMA_2_7B)
    share = counted(base, "lora", {"r": 16}, QV).trained / everything(base).trained
    assert round(100 * share, 2) == 0.12


def test_tied_weights_are_counted_once() -> None:
    assert everything(foundation(SMOLLM2)).trained == 134_515_008


@pytest.mark.parametrize("config", [SMALL, BERT], ids=["drawn", "on the meta device"])
@pytest.mark.parametrize("method", plugins.builtin_files())
def test_a_method_has_what_its_adapters_have(method: str, config: dict[str, Any]) -> None:
    model = imagined(config)
    try:
        made = adaptr.create(model, method)
    except AdaptrError as error:
        with pytest.raises(type(error)):
            counted(foundation(config), method)
        return
    found = counted(foundation(config), method)
    assert (found.trained, found.tensors) == (count(made), len(made.tensors))
    assert found.floats + found.integers == sum(math.prod(t.shape) for t in made.tensors.values())
    assert found.stored("fp32") == sum(t.numel() * t.element_size() for t in made.tensors.values())


def test_what_is_trained_beside_it_counts() -> None:
    base = foundation(SMALL)
    alone, beside = counted(base, "ia3"), counted(base, "ia3", also=["head"])
    assert beside.trained - alone.trained == 1001 * 48
    assert beside.changed - alone.changed == 1001 * 48


def test_what_changes_is_not_what_is_trained() -> None:
    base = foundation(SMALL)
    weights = sum(math.prod(t.shape) for t in adaptr.create(imagined(SMALL), "lora").targets.values())
    assert counted(base, "lora").changed == weights
    assert counted(base, "prefix").changed == 0
    sparse = counted(base, "shira", {"r": 2})
    assert sparse.changed == sparse.trained == sparse.integers


def test_torch_is_not_imported_for_a_decoder() -> None:
    program = f"""
import sys
import adaptr
found = adaptr.plan({LLAMA_2_7B!r}, ["lora", "dora", "ia3", "prompt", "prefix", "vera", "mam"])
assert found.ways and not {{"torch", "transformers", "numpy"}} & sys.modules.keys(), "imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# ---------------------------------------------------------------- PEFT's own count

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DOWN = ["down_proj"]
SAME: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "lora": ({"r": 4}, "LoraConfig", {"r": 4, "target_modules": ALL}),
    "dora": ({"r": 4}, "LoraConfig", {"r": 4, "use_dora": True, "target_modules": ALL}),
    "adalora": ({"r": 6}, "AdaLoraConfig", {"init_r": 6, "total_step": 9, "target_modules": ALL}),
    "ia3": ({}, "IA3Config", {"target_modules": ["k_proj", "v_proj", *DOWN], "feedforward_modules": DOWN}),
    "loha": ({"r": 4}, "LoHaConfig", {"r": 4, "target_modules": ALL}),
    "lokr": ({"r": 4}, "LoKrConfig", {"r": 4, "target_modules": ALL}),
    "oft": ({"b": 8}, "OFTConfig", {"oft_block_size": 8, "target_modules": ALL}),
    "boft": ({"b": 8}, "BOFTConfig", {"boft_block_size": 8, "target_modules": ALL}),
    "hra": ({"r": 4}, "HRAConfig", {"r": 4, "target_modules": ALL}),
    "vera": ({"r": 4}, "VeraConfig", {"r": 4, "target_modules": ALL}),
    "shira": ({"r": 4}, "ShiraConfig", {"r": 4, "target_modules": ALL}),
    "prompt": ({"tokens": 5}, "PromptTuningConfig", {"num_virtual_tokens": 5, "task_type": "CAUSAL_LM"}),
    "prefix": ({"tokens": 5}, "PrefixTuningConfig", {"num_virtual_tokens": 5, "task_type": "CAUSAL_LM"}),
}  # fmt: skip


def of_peft(model: Any, cls: str, values: dict[str, Any]) -> int:
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = peft.get_peft_model(model, getattr(peft, cls)(**values))
        trained, _ = made.get_nb_trainable_parameters()
    return int(trained)


@pytest.mark.parametrize("method", SAME)
def test_as_peft_counts_on_a_small_model(method: str) -> None:
    config, cls, values = SAME[method]
    import transformers

    sizes = {key: value for key, value in SMALL.items() if key not in {"architectures", "model_type"}}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    assert counted(foundation(SMALL), method, config).trained == of_peft(model, cls, values)


@pytest.mark.parametrize(("config", "targets", "number"), WORKED)
def test_as_peft_counts_on_a_7b_on_the_meta_device(config: dict[str, Any], targets: list[str], number: int) -> None:
    names = [f"{role[-1]}_proj" for role in targets]
    assert of_peft(imagined(config), "LoraConfig", {"r": 16, "target_modules": names}) == number


@pytest.mark.parametrize(
    ("method", "field", "found"), [("vblora", "v", {16}), ("psoft", "r", {16, 32}), ("qalora", "group", {24})]
)
def test_what_is_not_said_fits_narrow_bases(method: str, field: str, found: set[int]) -> None:
    sketch = foundation({**SMALL, "num_attention_heads": 3, "num_key_value_heads": 1}).model
    places = plugins.method(method).outline(sketch, ["attn.q", "attn.v"])
    assert {target.config[field] for _, target in places} == found


def test_what_goes_with_a_method_is_counted() -> None:
    def trained(**more: Any) -> int:
        return adaptr.plan(SMALL, "longlora", **more).ways[0].estimate.trained

    lora = adaptr.plan(SMALL, "lora", targets=["attn.q", "attn.k", "attn.v", "attn.o"]).ways[0].estimate.trained
    whole = sum(p.numel() for n, p in foundation(SMALL).model.named_parameters() if "norm" in n or "embed" in n)
    assert (trained(), trained(also=["norm"]) < trained()) == (lora + whole, True)
