"""Dtypes, quantised bases and optimisers: what is kept in which, and what a machine has not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import adaptr
import tiny
from adaptr.errors import ContentMismatch, MachineError
from adaptr.testing import assert_close, shaken
from adaptr.training.fields import recipe
from adaptr.training.precision import machine
from training_data import tokenizer

SMALL: dict[str, Any] = {"steps": 4, "rate": 0.02, "config": {"r": 4}, "samples": 0}


def named(**fields: Any) -> Any:
    return machine(recipe(base="b", data="d", device="cpu", **fields))


def test_a_forward_in_bf16_leaves_the_base_in_its_own_dtype_and_what_learns_in_fp32(base: Path, data: Path) -> None:
    report = adaptr.fit(base, data, dtype="bf16", **SMALL)
    assert report.dtype == "bf16"
    assert {tensor.dtype for tensor in report.adapter.tensors.values()} == {torch.float32}
    assert report.curves.loss[-1] < report.curves.loss[0]


def test_a_base_in_bf16_stays_so(base: Path, data: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    tokenizer().save_pretrained(tmp_path / "half")
    report = adaptr.fit(tmp_path / "half", data, dtype="bf16", **SMALL)
    assert report.curves.loss[-1] < report.curves.loss[0]
    assert max(report.moved.values()) > 0


def test_auto_is_fp32_without_cuda() -> None:
    assert (named().dtype, named().load) == ("fp32", "float32")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dtype": "fp16"}, "CUDA"),
        ({"optimizer": "adamw_8bit"}, "adapter's state is small"),
        ({"optimizer": "paged_adamw"}, "CUDA"),
        ({"optimizer": "paged_adamw_8bit"}, "CUDA"),
    ],
)
def test_what_a_cpu_has_not_is_refused(fields: Any, said: str) -> None:
    with pytest.raises(MachineError, match=said):
        named(**fields)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(MachineError, match="no cuda"):
        machine(recipe(base="b", data="d", device="cuda"))


@pytest.mark.parametrize("optimizer", ["adafactor", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "wsd"])
def test_other_optimisers_and_schedules(base: Path, data: Path, optimizer: str, schedule: str) -> None:
    report = adaptr.fit(base, data, optimizer=optimizer, schedule=schedule, **{**SMALL, "steps": 2})
    assert max(report.moved.values()) > 0


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As wide as a block of bitsandbytes'."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**tiny.GROUPED, "hidden_size": 64, "intermediate_size": 128})).save_pretrained(
        folder
    )
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("lora", {"base_quant": "nf4"}),
        ("dora", {"base_quant": "nf4", "double_quant": True}),
        ("qlora", {}),
        ("lora", {"base_quant": "int8"}),
    ],
)
def test_a_quantised_base(wide: Path, data: Path, method: str, fields: Any) -> None:
    pytest.importorskip("bitsandbytes")
    report = adaptr.fit(wide, data, method=method, valid="25%", eval_every=2, **fields, **SMALL)
    assert {tensor.dtype for tensor in report.adapter.tensors.values()} == {torch.float32}
    assert min(report.moved.values()) > 0
    assert report.after["loss"] < report.before["loss"]
    assert [step for step, _ in report.curves.measured] == [2, 4]
    assert "bitsandbytes" in report.versions


def test_an_adapter_over_a_quantised_base_knows_the_files_that_it_came_from(
    wide: Path, data: Path, tmp_path: Path
) -> None:
    """Which another base of the same shapes is refused by, live and in files."""
    pytest.importorskip("bitsandbytes")
    report = adaptr.fit(wide, data, base_quant="nf4", **SMALL)
    base = AutoModelForCausalLM.from_pretrained(wide)
    assert report.adapter.base.quantization == "bitsandbytes"
    assert report.adapter.base.content == adaptr.create(base, "lora").base.content
    adaptr.attach(base, report.adapter).detach()
    adaptr.merge(wide, report.adapter, tmp_path / "merged")
    torch.nn.init.normal_(base.model.layers[0].self_attn.q_proj.weight)
    base.save_pretrained(tmp_path / "other")
    with pytest.raises(ContentMismatch, match="not those it was trained on"):
        adaptr.attach(base, report.adapter)
    with pytest.raises(ContentMismatch, match=r"trained over a packed form \(bitsandbytes\)"):
        adaptr.merge(tmp_path / "other", report.adapter, tmp_path / "wrong")


def test_a_transposed_layer_that_was_packed_is_one(tmp_path: Path) -> None:
    """GPT-2's, which bitsandbytes holds the other way round."""
    pytest.importorskip("bitsandbytes")
    config = GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=64, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    packed = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2", quantization_config=packing)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")
    made, wanted = (shaken(adaptr.create(model, "lora", "all-linear")) for model in (packed, whole))
    assert (made.targets, made.base.structure, made.base.content) == (
        wanted.targets,
        wanted.base.structure,
        wanted.base.content,
    )
    with torch.no_grad():
        given = {"input_ids": torch.arange(8)[None]}
        bare = [model(**given).logits for model in (packed, whole)]
        for model in (packed, whole):
            adaptr.attach(model, made)
        found, exact = (model(**given).logits - before for model, before in zip((packed, whole), bare, strict=True))
    assert float((found - exact).norm() / exact.norm()) < 0.15
    adaptr.merge(tmp_path / "gpt2", made, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert_close(merged(**given).logits, whole(**given).logits)


@pytest.mark.parametrize("double", [False, True])
def test_a_base_that_is_stored_in_four_bits(wide: Path, data: Path, tmp_path: Path, double: bool) -> None:
    pytest.importorskip("bitsandbytes")
    packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double)
    model = AutoModelForCausalLM.from_pretrained(wide, quantization_config=packing, dtype=torch.float32)
    model.save_pretrained(tmp_path / "packed")
    tokenizer().save_pretrained(tmp_path / "packed")
    report = adaptr.fit(tmp_path / "packed", data, method="dora", valid="25%", checkpointing=True, **SMALL)
    assert min(report.moved.values()) > 0
    assert report.after["loss"] < report.before["loss"]


def test_checkpointed_activations_change_no_bit(base: Path, data: Path) -> None:
    one, other = (adaptr.fit(base, data, checkpointing=on, **SMALL) for on in (False, True))
    assert one.curves.loss == other.curves.loss
    assert all(torch.equal(one.adapter.tensors[key], value) for key, value in other.adapter.tensors.items())


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, ("nf4", True)),
        ({"double_quant": False}, ("nf4", False)),
        ({"base_quant": "int8"}, ("int8", False)),
        ({"base_quant": "none"}, ("none", False)),
        ({"method": "lora"}, ("none", False)),
    ],
)
def test_a_method_brings_its_fields_of_a_recipe_where_none_of_them_is_said(said: Any, wanted: tuple[str, bool]) -> None:
    made = recipe(**{"base": "b", "data": "d", "method": "qlora", **said})
    assert (made.base_quant, made.double_quant) == wanted
