"""Merging into packed checkpoints: what comes out, what unmerging gives back, what verifying says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import adaptr
from adaptr.adapter import Adapter, Target
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import whole
from adaptr.errors import LossyConversion, Unsupported, UsageError
from adaptr.packings import Grid
from packed_bases import PATHS, exact, lora
from packed_files import Q, checkpoint

REFERENCES = (
    "bnb-nf4", "bnb-nf4-dq", "bnb-fp4", "bnb-int8", "fp8-block", "ct-int4-g128", "ct-int8-channel", "ct-int8-w8a8",
    "ct-fp8-tensor", "ct-fp8-channel", "ct-fp8-block", "ct-nvfp4", "ct-mxfp4", "torchao-int8", "torchao-float8",
    "torchao-intx4", "gptq-int4", "gptq-int4-actorder-v2", "gptq-int8", "awq", "hqq",
)  # fmt: skip


@pytest.fixture(params=REFERENCES)
def base(shared: Path, request: pytest.FixtureRequest) -> Path:
    return shared / "quant-refs" / request.param


def same_files(one: Path, two: Path) -> bool:
    names = {path.name for path in one.iterdir()} | {path.name for path in two.iterdir()}
    kept = {"model.safetensors", "config.json"}
    return kept <= names and all((one / name).read_bytes() == (two / name).read_bytes() for name in kept)


def test_what_changes_comes_out_as_floats_and_the_rest_stays_packed(base: Path, tmp_path: Path) -> None:
    before = open_checkpoint(base)
    adapter = lora(before, 0.05)
    report = adaptr.merge(base, adapter, tmp_path / "out")
    assert any("3 weights are packed no more" in note and "packs them again" in note for note in report.notes)
    after = open_checkpoint(tmp_path / "out")
    for name, stored in before.tensors.items():
        path = name.removesuffix(".weight")
        made = after.tensors[name]
        if path not in PATHS:
            assert isinstance(made, Packed) == isinstance(stored, Packed)
            assert torch.equal(whole(made), whole(stored))
        else:
            assert not isinstance(made, Packed)
            assert made.entry.dtype == stored.floats
            want = exact(before, adapter, path)
            assert torch.allclose(whole(made).float(), want, rtol=2**-8, atol=1e-7)  # one rounding
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    packed = json.dumps(said.get("modules_in_block_to_quantize", ""))  # GPTQ says what is, all others what is not
    named = [path.partition("layers.0.")[2] in (packed if packed != '""' else json.dumps(said)) for path in PATHS]
    assert not any(named) if packed != '""' else all(named)
    assert packed != '""' or "lm_head" in json.dumps(said)


def test_one_small_weight_is_told_of_as_one(shared: Path, tmp_path: Path) -> None:
    base = shared / "quant-refs" / "bnb-nf4"
    report = adaptr.merge(base, lora(open_checkpoint(base), 0.05, PATHS[:1]), tmp_path / "out")
    size = "9.36 kB became 32.8 kB"
    assert f"1 weight is packed no more: bnb-nf4 became BF16, {size}; `--packed` packs it again" in report.notes


def test_codes_that_stay_are_no_matter_of_a_wider_dtype(shared: Path, tmp_path: Path) -> None:
    base = shared / "quant-refs" / "bnb-nf4"
    report = adaptr.merge(base, lora(open_checkpoint(base), 0.05), tmp_path / "out", packed=True, lossy=True)
    assert report.unchanged > 0.5
    assert report.notes == []


def test_nothing_is_said_to_be_packed_where_nothing_is(base: Path, tmp_path: Path) -> None:
    before = open_checkpoint(base)
    every = tuple(n.removesuffix(".weight") for n, stored in before.tensors.items() if isinstance(stored, Packed))
    adaptr.merge(base, lora(before, 0.05, every), tmp_path / "out")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert same_files(base, tmp_path / "back")


@pytest.mark.parametrize("packed", [False, True])
def test_unmerging_gives_the_packed_bytes_back(base: Path, tmp_path: Path, packed: bool) -> None:
    adapter = lora(open_checkpoint(base), 0.2)
    adaptr.merge(base, adapter, tmp_path / "out", packed=packed, lossy=True)
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert same_files(base, tmp_path / "back")


@pytest.mark.parametrize("packed", [False, True])
def test_verifying_proves_it(base: Path, tmp_path: Path, packed: bool) -> None:
    adapter = lora(open_checkpoint(base), 0.2)
    adaptr.merge(base, adapter, tmp_path / "out", packed=packed, lossy=True)
    proof = adaptr.verify(tmp_path / "out", base, adapter)
    assert proof.ok
    assert proof.exact
    other = adaptr.verify(tmp_path / "out", base, lora(open_checkpoint(base), 0.2))
    assert not other.ok


def test_packed_again_it_is_the_nearest_on_the_grid(base: Path, tmp_path: Path) -> None:
    before = open_checkpoint(base)
    adapter = lora(before, 0.3)
    report = adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    after = open_checkpoint(tmp_path / "out")
    assert report.packed is not None
    assert report.packed.survived > 0.8
    assert {f"{path}.weight" for path in PATHS} == report.packed.tensors.keys()
    for path in PATHS:
        stored, made = before.tensors[f"{path}.weight"], after.tensors[f"{path}.weight"]
        assert isinstance(made, Packed)
        assert isinstance(made.codec, Grid)
        D = exact(before, adapter, path) - whole(stored).float()
        moved = whole(made).float() - whole(stored).float()
        said = report.packed.tensors[f"{path}.weight"]
        assert said["survived"] == pytest.approx(float((moved * D).sum() / D.square().sum()), rel=1e-3)
        assert said["left"] == pytest.approx(float((moved - D).norm() / D.norm()), rel=1e-3)
        assert said["left"] < 1
    assert (tmp_path / "out" / "config.json").read_bytes() == (base / "config.json").read_bytes()


def test_what_would_not_survive_is_refused(shared: Path, tmp_path: Path) -> None:
    base = shared / "quant-refs" / "bnb-nf4"
    adapter = lora(open_checkpoint(base), 0.04)
    with pytest.raises(LossyConversion, match="of the adapter would survive"):
        adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    assert not (tmp_path / "out").exists()
    report = adaptr.merge(base, adapter, tmp_path / "out", packed=True, lossy=True)
    assert report.packed is not None
    assert report.packed.survived < 0.5


def test_of_a_base_in_floats_nothing_is_packed_again(tmp_path: Path) -> None:
    import checkpoints as c

    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(8, 8)}, {})
    adapter = Adapter(
        "lora",
        {},
        {"q": Target("q", "linear", (8, 8), {"r": 2, "alpha": 2})},
        {"q:A": torch.randn(2, 8), "q:B": torch.randn(8, 2)},
    )
    with pytest.raises(Unsupported, match="none of the weights that change lies packed"):
        adaptr.merge(base, adapter, tmp_path / "out", packed=True)


def test_dora_reads_the_weight_through_the_packing(base: Path, tmp_path: Path) -> None:
    before = open_checkpoint(base)
    adapter = lora(before, 0.05)
    tensors = dict(adapter.tensors)
    for path in PATHS:
        tensors[f"{path}:m"] = exact(before, adapter, path).norm(dim=1) * 1.05
    dora = adapter.replace(method="dora", tensors=tensors)
    adaptr.merge(base, dora, tmp_path / "out")
    after = open_checkpoint(tmp_path / "out")
    for path in PATHS:
        want = exact(before, adapter, path) * 1.05
        assert torch.allclose(whole(after.tensors[f"{path}.weight"]).float(), want, rtol=1e-2, atol=1e-4)
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert same_files(base, tmp_path / "back")


def require_compensated(base: Path, adapter: Adapter, out: Path) -> None:
    """What is packed, with the adapter beside it, is off by as much as the report says, and less than without."""
    report = adaptr.merge(base, adapter, out, packed=True, compensate=4)
    assert report.packed is not None
    made = report.packed.compensation
    assert made is not None
    before, after, rest = open_checkpoint(base), open_checkpoint(out), adaptr.load(out / made.file)
    off = size = 0.0
    for path in adapter.targets:
        C = (rest.tensors[f"{path}:B"] @ rest.tensors[f"{path}:A"]).float()
        wanted = exact(before, adapter, path)
        off += float((whole(after.tensors[f"{path}.weight"]).float() + C - wanted).square().sum())
        size += float((wanted - whole(before.tensors[f"{path}.weight"]).float()).square().sum())
    assert made.left == pytest.approx((off / size) ** 0.5, rel=1e-3)
    assert made.left < report.packed.left
    assert rest.lineage["parents"]


def test_what_is_lost_is_put_into_an_adapter_beside(base: Path, tmp_path: Path) -> None:
    before = open_checkpoint(base)
    adapter = lora(before, 0.05)
    require_compensated(base, adapter, tmp_path / "out")
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert same_files(base, tmp_path / "back")


def test_compensation_is_of_packed_weights(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="say `packed` too"):
        adaptr.merge(base, lora(open_checkpoint(base), 0.05), tmp_path / "out", compensate=4)


def test_what_large_weights_lose_is_read_in_parts(tmp_path: Path) -> None:
    W = torch.randn(520, 640)
    said = {"quant_method": "fp8", "weight_block_size": None}
    parts = {f"{Q}.weight": (W * 100).to(torch.float8_e4m3fn), f"{Q}.weight_scale_inv": torch.tensor(0.01)}
    base = checkpoint(tmp_path / "base", parts, said)
    require_compensated(base, lora(open_checkpoint(base), 0.05, (Q,)), tmp_path / "out")
