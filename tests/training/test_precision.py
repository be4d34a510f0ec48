"""Dtypes, quantised bases and optimisers: what is kept in which, and what a machine has not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

import adaptr
import tiny
from adaptr.errors import MachineError
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
