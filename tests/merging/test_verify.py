"""Verify: what it proves, what it measures, and what it does not let pass."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import checkpoints as c
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.merging.verify import VerifyReport

Q = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return c.saved("llama", tmp_path / "base", torch.bfloat16, shard="40KB")


@pytest.fixture
def adapter(base: Path) -> Adapter:
    return c.randomised(base, targets=["attn.q", "mlp.down"])


@pytest.fixture
def merged(base: Path, adapter: Adapter, tmp_path: Path) -> Path:
    api.merge(base, [adapter], tmp_path / "out")
    return tmp_path / "out"


def edit(folder: Path, name: str, change: Any) -> None:
    """Rewrite one tensor with what `change` makes of it; None takes it out."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        if name in found:
            new = change(found.pop(name))
            save_file({**found, **({name: new} if new is not None else {})}, path, {"format": "pt"})


def reasons(report: VerifyReport) -> dict[str, str]:
    return {d.tensor: d.reason for d in report.differences}


def test_our_own_merge_is_exact(base: Path, adapter: Adapter, merged: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    report = api.verify(merged, base, [adapter], progress=lambda *told: seen.append(told))
    assert (report.ok, report.exact, report.different, report.error, report.differences) == (True, True, 0, 0.0, [])
    assert report.recomputed == 4
    assert report.tensors == len(c.tensors_of(base))
    assert report.elements == sum(t.numel() for t in c.tensors_of(base).values())
    assert seen[-1][2] == "verifying"
    assert all(a <= b for (a, *_), (b, *_) in pairwise(seen))


def test_other_adapters_and_weights_are_noticed(base: Path, adapter: Adapter, merged: Path) -> None:
    other = c.randomised(base, targets=["attn.q", "mlp.down"], seed=9)
    missing = c.randomised(base, targets=["attn.k"])
    for stack in ([(adapter, 0.9)], [other], [adapter, missing]):
        report = api.verify(merged, base, stack)
        assert not report.ok
        assert report.error > 0.05
    names = {d.tensor.split(".")[-2] for d in api.verify(merged, base, [adapter, missing]).differences}
    assert names == {"k_proj"}
    assert not api.verify(base, base, [adapter]).ok


def sign(t: torch.Tensor) -> torch.Tensor:
    i = int(t.abs().view(-1).argmax())
    t.view(-1)[i] *= -1
    return t


def exponent(t: torch.Tensor) -> torch.Tensor:
    t.view(torch.int16).view(-1)[5] ^= 1 << 7
    return t


def nan(t: torch.Tensor) -> torch.Tensor:
    t.view(-1)[3] = float("nan")
    return t


@pytest.mark.parametrize("flip", [sign, exponent, nan])
def test_one_flipped_element_is_noticed(base: Path, adapter: Adapter, merged: Path, flip: Any) -> None:
    edit(merged, Q, flip)
    report = api.verify(merged, base, [adapter])
    assert not report.ok
    assert (report.different, reasons(report)) == (1, {Q: "differs from the merge"})


def last(t: torch.Tensor) -> torch.Tensor:
    t.view(torch.int16).view(-1)[5] ^= 1
    return t


def test_a_last_bit_is_measured_not_exact(base: Path, adapter: Adapter, merged: Path) -> None:
    edit(merged, Q, last)
    report = api.verify(merged, base, [adapter])
    assert (report.ok, report.exact, report.different, report.differences[0].ulps) == (True, False, 1, 1)
    assert 0 < report.error < 0.01
    assert 0 < report.differences[0].roundings <= 1


def test_untouched_tensors_allow_nothing(base: Path, adapter: Adapter, merged: Path) -> None:
    edit(merged, NORM, last)
    report = api.verify(merged, base, [adapter])
    assert (report.ok, reasons(report)) == (False, {NORM: "differs from the base"})


def test_the_sign_of_a_zero_counts(tmp_path: Path) -> None:
    tensors = {"q.weight": torch.randn(4, 4), "zero": torch.zeros(3)}
    base, adapter = c.bare(tmp_path / "base", tensors), c.lora_at(Target("q", "linear", (4, 4)))
    api.merge(base, [adapter], tmp_path / "out")
    edit(tmp_path / "out", "zero", lambda t: -t)
    assert not api.verify(tmp_path / "out", base, [adapter]).ok


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (Q, lambda t: None, "is missing"),
        (NORM, lambda t: None, "is missing"),
        (Q, lambda t: t[:, :-1].contiguous(), r"has shape (32, 31), wanted (32, 32)"),
        (Q, lambda t: t.float(), "is F32, wanted BF16"),
        (NORM, lambda t: t.half(), "is F16, wanted BF16"),
    ],
)
def test_tensors_that_are_something_else(
    base: Path, adapter: Adapter, merged: Path, name: str, change: Any, reason: str
) -> None:
    for path in merged.glob("*.json"):
        if "index" in path.name:
            path.unlink()
    whole = c.tensors_of(merged)
    for path in merged.glob("*.safetensors"):
        path.unlink()
    new = change(whole.pop(name))
    save_file({**whole, **({name: new} if new is not None else {})}, merged / "model.safetensors")
    report = api.verify(merged, base, [adapter])
    assert (report.ok, reasons(report)) == (False, {name: reason})


def test_tensors_too_many(base: Path, adapter: Adapter, merged: Path) -> None:
    path = next(merged.glob("*.safetensors"))
    with safe_open(path, "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    save_file({**found, "more": torch.zeros(1)}, path)
    report = api.verify(merged, base, [adapter])
    assert (report.ok, reasons(report)) == (False, {"more": "is in no base and no adapter"})


def test_replaced_parameters_must_be_equal(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(4, 4), "head": torch.randn(4)})
    adapter = c.lora_at(Target("q", "linear", (4, 4)))
    adapter = adapter.replace(tensors={**adapter.tensors, "head:=": torch.randn(4)})
    api.merge(base, [adapter], tmp_path / "out")
    assert api.verify(tmp_path / "out", base, [adapter]).exact
    edit(tmp_path / "out", "head", lambda t: t + 1e-6)
    assert not api.verify(tmp_path / "out", base, [adapter]).ok


@pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
@pytest.mark.parametrize("fp32", [True, False], ids=["factors in fp32", "factors in bf16"])
def test_what_peft_merges_is_accepted_with_its_error(tmp_path: Path, fp32: bool) -> None:
    """With factors in the base's dtype PEFT rounds their product before it is added: other bits, the same merge."""
    import peft

    base = c.saved("llama", tmp_path / "base", torch.bfloat16)
    config = peft.LoraConfig(r=4, target_modules="all-linear")
    model = peft.get_peft_model(c.model_of(base), config, autocast_adapter_dtype=fp32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(tmp_path / "peft")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    report = api.verify(tmp_path / "merged", base, [tmp_path / "peft"])
    assert report.ok
    assert report.exact == fp32
    assert (0 < report.error < 0.03) == (not fp32)
    assert not api.verify(tmp_path / "merged", base, [(tmp_path / "peft", 0.8)]).ok
