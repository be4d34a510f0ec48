"""Half precision: what is computed of it is computed in fp32: merged, attached, composed and stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import adaptr
from adaptr import Base, plugins, precision
from adaptr.changes.deltas import deltas
from adaptr.contract.view import of_weight
from adaptr.errors import BadConfig, Unsupported, UsageError
from one_layer import HALF, METHODS, TRANSFORMS, TUCKER, One, conv, dense, doubled, drawn, linear, relative

# ---------------------------------------------------------------- deltas and merging


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("method", METHODS)
def test_a_delta_of_halves_is_that_of_the_same_numbers(method: str, dtype: torch.dtype) -> None:
    adapter = drawn(linear(), method, dtype, **METHODS[method])
    for found in (dense(adapter), deltas(adapter)["fc"].dense(), (0.7 * adapter)["fc"].dense() / 0.7):
        assert relative(found, dense(doubled(adapter))) < 1e-6


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("method", TUCKER)
def test_a_core_of_halves_too(method: str, dtype: torch.dtype) -> None:
    adapter = drawn(conv(), method, dtype, **TUCKER[method])
    assert relative(deltas(adapter)["fc"].dense(), dense(doubled(adapter))) < 1e-6


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("method", [*METHODS, *TRANSFORMS, "bitfit"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_merging_halves_is_merging_the_same_numbers(method: str, dtype: torch.dtype, weight: float) -> None:
    adapter = drawn(linear(), method, dtype, **{**METHODS, **TRANSFORMS}.get(method, {}))
    layer = linear().fc
    W, b = layer.weight.detach(), layer.bias.detach()  # type: ignore[union-attr]
    merge = plugins.method(method).merge
    mine, wanted = (
        merge(one, adapter.targets["fc"], of_weight(W.to(work), b.to(work)), weight)  # type: ignore[operator]
        for one, work in ((adapter, torch.float32), (doubled(adapter), torch.float64))
    )
    assert relative(mine.weight, wanted.weight) < 1e-6
    assert mine.bias is not None
    assert wanted.bias is not None
    assert relative(mine.bias, wanted.bias) < 1e-6
    assert wanted.weight.dtype is torch.float64


def test_small_factors_in_fp16_do_not_vanish(tmp_path: Path) -> None:
    """w1_a w1_b is 1e-6 here, which fp16 rounds by 3 %, and the product of two such is zero in it."""
    adapter = drawn(linear(), "loha", torch.float16, by=1e-3, r=4)
    tensors = {key: t - t + (1e-3 * torch.randn(t.shape)).half() for key, t in adapter.tensors.items()}
    adapter = adapter.replace(tensors=tensors)
    wanted = dense(doubled(adapter))
    adaptr.save(adapter, tmp_path / "a")
    report = adaptr.convert_method(tmp_path / "a", tmp_path / "b")
    assert report.exact
    assert relative(dense(adaptr.load(tmp_path / "b")), wanted) < 1e-6
    assert relative(deltas(adapter)["fc"] @ torch.eye(24).half(), wanted.T) < 1e-6


# ---------------------------------------------------------------- attached


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("method", [*METHODS, *TRANSFORMS])
def test_attached_in_half_precision(method: str, dtype: torch.dtype) -> None:
    adapter = drawn(linear(), method, dtype, **{**METHODS, **TRANSFORMS}[method])
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(3)).to(dtype)
    model = linear().to(dtype)
    wide = linear().to(dtype).double()
    with torch.no_grad(), adaptr.attach(model, adapter), adaptr.attach(wide, doubled(adapter)):
        assert relative(model(x), wide(x.double())) < (8e-4 if dtype is torch.float16 else 6e-3)


def test_a_product_that_fp16_does_not_hold_is_attached_whole() -> None:
    model = linear().half()
    nn.init.zeros_(model.fc.weight)  # type: ignore[arg-type]
    nn.init.zeros_(model.fc.bias)  # type: ignore[arg-type]
    # each factor's product is 1e-8, too small for fp16; the delta is 1e4 times it
    adapter = drawn(linear(), "adalora", torch.float16, by=0.0, r=1)
    own = {"fc:A": torch.full((1, 24), 1e-4), "fc:E": torch.full((1, 1), 1e-4), "fc:B": torch.full((16, 1), 6e3)}
    adapter = adapter.replace(tensors={key: t.half() for key, t in own.items()})
    x = torch.ones(1, 24).half()
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert relative(model(x), x.double() @ dense(doubled(adapter)).T) < 2e-3


@pytest.mark.parametrize("std", [1e-4, 1.0, 8.0])
def test_norms_of_dora_are_not_taken_in_fp16(std: float) -> None:
    torch.manual_seed(0)
    model = One(nn.Linear(1024, 16, bias=False)).eval()
    nn.init.normal_(model.fc.weight, std=std)  # type: ignore[arg-type]
    made = adaptr.create(model, "dora", ["fc"], r=4)
    own = {**made.tensors, "fc:B": std * torch.randn(16, 4)}
    adapter = made.replace(tensors={k: t.half() for k, t in own.items()}, base=Base())
    x, half = torch.randn(4, 1024).half(), model.half()
    W = plugins.method("dora").merge(doubled(adapter), made.targets["fc"], of_weight(half.fc.weight.double()), 1.0)
    wanted = x.double() @ W.weight.T
    with torch.no_grad(), adaptr.attach(half, adapter):
        assert relative(half(x), wanted) < 8e-4
    pool = adaptr.pool(half, slots=2, dtype=torch.float16)
    pool.add("d", adapter)
    with torch.no_grad(), pool.rows(["d"] * 4):
        assert relative(half(x.unsqueeze(1)).squeeze(1), wanted) < 8e-4
    pool.detach()


@pytest.mark.parametrize("method", ["houlsby", "lora"])
def test_training_halves_does_not_narrow_a_wider_model(method: str) -> None:
    """The layer's own output stays in fp32, whatever the adapter is stored in."""
    model = linear(24, 24)
    x = torch.randn(3, 24)
    before = model(x)
    fresh = adaptr.create(model, method, ["re:fc"] if method == "houlsby" else ["fc"])
    zero = {k: torch.zeros_like(t).bfloat16() for k, t in fresh.tensors.items()}
    with adaptr.train(model, fresh.replace(tensors=zero)):
        assert torch.equal(model(x), before)


# ---------------------------------------------------------------- OFT


def test_a_width_that_no_block_divides() -> None:
    """37 has no divisor up to 32 but 1: as in PEFT, the next above it where that is nearer."""
    model = linear(37)
    adapter = adaptr.create(model, "oft", ["fc"], b=32)
    assert adapter.targets["fc"].config["b"] == 37
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert model(torch.ones(1, 37)).isfinite().all()
    for width in (97, 1):
        with pytest.raises(BadConfig, match=rf"divides {width}.*leave that target out"):
            adaptr.create(linear(width), "oft", ["fc"], b=32)


# ---------------------------------------------------------------- names


def test_names_of_dtypes() -> None:
    assert [precision.named(n) for n in ("bf16", "bfloat16", torch.bfloat16)] == [torch.bfloat16] * 3
    assert (precision.called("float32"), precision.called(None)) == ("fp32", None)
    with pytest.raises(UsageError, match="fp64, fp32, fp16, bf16"):
        precision.named("int8")


def test_bytes_count_as_fp32() -> None:
    """torch promotes nothing with them."""
    adapter = drawn(linear(), "lora", torch.float8_e4m3fn, r=2)
    wanted = dense(doubled(adapter))
    assert relative(deltas(adapter)["fc"].dense(), wanted) < 1e-6
    model, x = linear(), torch.randn(2, 24)
    with torch.no_grad():
        before = model(x)
        with adaptr.attach(model, adapter):
            assert relative(model(x) - before, x.double() @ wanted.T) < 1e-5


def test_a_look_up_table_gets_no_bias() -> None:
    table = One(nn.Embedding(7, 5))
    with pytest.raises(Unsupported, match="`bias` at `fc`"):
        adaptr.create(table, "lora", ["fc"], bias=True)
