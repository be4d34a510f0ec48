"""A merge in another dtype than its base's: rounded once, proven, and undone where that dtype holds the base's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import checkpoints as c
import packed_files
from adaptr import api
from adaptr.adapter import Target
from adaptr.errors import NonFinite, NothingChanged, NotMerged, Unsupported, UsageError
from merging.round_trips import BF16, F16, F32, F64, round_trip


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "bitfit"])
@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_a_wider_dtype_is_proven_and_undone(tmp_path: Path, method: str, dtype: torch.dtype) -> None:
    kind = "bert" if method == "bitfit" else "gpt2"
    base = c.saved(kind, tmp_path / "base", dtype, shard="40KB")
    adapter = c.randomised(base, method)
    report = round_trip(base, [(adapter, 0.5)], tmp_path / "out", dtype="fp32")
    assert (report.dtype, report.exact, report.added) == ("float32", True, [])
    assert report.rounding < 1e-7
    assert {t.dtype for t in c.tensors_of(tmp_path / "out").values()} == {F32}
    assert c.model_of(tmp_path / "out").dtype is F32
    assert api.verify(tmp_path / "out").exact  # by the receipt alone


def test_what_comes_out_is_smaller_than_the_base(tmp_path: Path) -> None:
    """Of a wider dtype the receipt need know next to nothing."""
    base = c.saved("llama", tmp_path / "base", BF16)
    report = api.merge(base, c.randomised(base), tmp_path / "out", dtype="fp32")
    plain = api.merge(base, c.randomised(base), tmp_path / "plain")
    assert report.unchanged < plain.unchanged
    blobs = [len(key) for key in _blobs(tmp_path / "out") if key.endswith(":bits")]
    assert not blobs


def _blobs(merged: Path) -> list[str]:
    from adaptr.merging import receipt

    return list(receipt.read(merged).header.entries)


def test_a_narrower_dtype_is_rounded_once_and_can_not_be_undone(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base", F32)
    adapter = c.randomised(base)
    report = api.merge(base, adapter, tmp_path / "out", dtype="bfloat16")
    api.merge(base, adapter, tmp_path / "wide")
    want = {name: tensor.to(BF16) for name, tensor in c.tensors_of(tmp_path / "wide").items()}
    found = c.tensors_of(tmp_path / "out")
    assert found.keys() == want.keys()
    assert all(torch.equal(found[name], want[name]) for name in want)
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    exact = c.tensors_of(tmp_path / "wide")
    error = sum(float((found[name].double() - exact[name]).square().sum()) for name in exact)
    size = sum(float(tensor.double().square().sum()) for tensor in exact.values())
    assert report.rounding == pytest.approx((error / size) ** 0.5, rel=1e-3)
    assert not report.exact
    assert "does not hold all of the base's float32" in report.notes[-1]
    with pytest.raises(NotMerged, match="bfloat16, which does not hold all of the base's float32"):
        api.unmerge(tmp_path / "out", tmp_path / "back")
    with pytest.raises(NotMerged, match="`dtype=`"):
        api.verify(tmp_path / "out")
    assert api.verify(tmp_path / "out", base).exact
    (tmp_path / "out/adaptr/receipt.safetensors").unlink()
    assert api.verify(tmp_path / "out", base, adapter, dtype="bf16").exact
    assert not api.verify(tmp_path / "out", base, adapter).ok


def test_of_several_dtypes_each_comes_back_as_it_was(tmp_path: Path) -> None:
    tensors = {"q.weight": torch.randn(8, 6).to(BF16), "k.weight": torch.randn(8, 6).to(F16), "n": torch.ones(3)}
    base = c.bare(tmp_path / "base", {**tensors, "ids": torch.arange(3), "s": torch.tensor(2.0).to(BF16)})
    stack = [c.lora_at(Target("q", "linear", (8, 6)))]
    round_trip(base, stack, tmp_path / "out", dtype="fp32")
    found = c.tensors_of(tmp_path / "out")
    assert found["ids"].dtype is torch.int64
    assert found["s"].item() == 2


@pytest.mark.parametrize("name", ["q.weight", "n"])
def test_what_overflows_is_refused(tmp_path: Path, name: str) -> None:
    tensors = {"q.weight": torch.randn(8, 6), "n": torch.ones(3)}
    tensors[name] = tensors[name] * 1e6
    base = c.bare(tmp_path / "base", tensors)
    with pytest.raises(NonFinite, match=rf"`{name}` would overflow.*float16 holds"):
        api.merge(base, c.lora_at(Target("q", "linear", (8, 6))), tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()


def test_infinity_that_was_there_stays(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(8, 6), "mask": torch.tensor([0.0, -torch.inf])})
    api.merge(base, c.lora_at(Target("q", "linear", (8, 6))), tmp_path / "out", dtype="fp16")
    assert c.tensors_of(tmp_path / "out")["mask"].tolist() == [0.0, -torch.inf]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base", BF16)
    with pytest.raises(UsageError, match="one of fp32, fp16, bf16"):
        api.merge(base, c.randomised(base), tmp_path / "out", dtype=F64)
    with pytest.raises(UsageError, match="`fp8`, wanted one of fp32, fp16, bf16"):
        api.merge(base, c.randomised(base), tmp_path / "out", dtype="fp8")
    with pytest.raises(NothingChanged):  # another dtype is no change by an adapter
        api.merge(base, (c.randomised(base), 0.0), tmp_path / "out", dtype="fp32")


def test_a_packed_base_is_refused(tmp_path: Path) -> None:
    said = {"quant_method": "fp8", "weight_block_size": None}
    parts = {f"{packed_files.Q}.weight": torch.randn(8, 6).to(torch.float8_e4m3fn)}
    scale = {f"{packed_files.Q}.weight_scale_inv": torch.tensor(0.01)}
    base = packed_files.checkpoint(tmp_path / "base", {**parts, **scale}, said)
    with pytest.raises(Unsupported, match="lies packed in this base"):
        api.merge(base, c.lora_at(Target(packed_files.Q, "linear", (8, 6))), tmp_path / "out", dtype="fp32")


def test_the_command_says_what_is_rounded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from adaptr.cli import run

    base = c.saved("llama", tmp_path / "base", F32)
    api.save(c.randomised(base), tmp_path / "a.safetensors")
    assert (
        run(["merge", str(base), str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "out"), "--dtype", "bf16"]) == 0
    )
    shown = " ".join(capfd.readouterr().out.split())
    assert "bfloat16, which rounds 0.1" in shown
    assert "can't be unmerged" in shown
    assert run(["verify", str(tmp_path / "out"), "--base", str(base), "--dtype", "bf16"]) == 0
