"""Half precision: what is computed of it is computed in fp32: merged, attached, composed and stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
from adaptr import Adapter, Base, plugins, precision
from adaptr.changes.deltas import deltas
from adaptr.contract.view import of_weight
from adaptr.errors import BadConfig, NonFinite, Unsupported, UsageError

HALF = (torch.float16, torch.bfloat16)
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"r": 3, "bias": True},
    "adalora": {"r": 3},
    "loha": {"r": 2},
    "lokr": {"r": 2, "factor": 4, "decompose_both": True},
    "vera": {"r": 4},
    "shira": {"r": 1, "alpha": 0.3},
    "full": {"bias": True},
}
TRANSFORMS: dict[str, dict[str, Any]] = {"dora": {"r": 3}, "ia3": {"side": "out"}, "oft": {"b": 4},
    "boft": {"b": 4, "m": 2}, "hra": {"r": 4}}  # fmt: skip
TUCKER = {name: {"r": 2, "tucker": True} for name in ("loha", "lokr")}


class One(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.fc = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x)
        return y


def linear(into: int = 24, out: int = 16) -> One:
    torch.manual_seed(0)
    return One(nn.Linear(into, out)).eval()


def conv() -> One:
    torch.manual_seed(0)
    return One(nn.Conv2d(8, 16, 3)).eval()


def drawn(model: nn.Module, method: str, dtype: torch.dtype, by: float = 0.3, seed: int = 1, **config: Any) -> Adapter:
    """An adapter with all its tensors away from where they start, stored in `dtype`, for any base."""
    made = adaptr.create(model, method, ["fc"], **config)
    g = torch.Generator().manual_seed(seed)
    tensors = {
        key: (t + by * torch.randn(t.shape, generator=g)).to(dtype) if t.is_floating_point() else t
        for key, t in made.tensors.items()
    }
    return made.replace(tensors=tensors, base=Base(), name=f"{method}-{seed}")


def doubled(adapter: Adapter) -> Adapter:
    """The reference: the same numbers in fp64."""
    return adapter.replace(tensors={k: t.double() if t.is_floating_point() else t for k, t in adapter.tensors.items()})


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def dense(adapter: Adapter) -> torch.Tensor:
    return deltas(adapter)["fc"].dense(torch.float64)


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


@pytest.mark.parametrize("scheme", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_quantised(scheme: str, value: float) -> None:
    made = adaptr.create(linear(), "lora", ["fc"], r=2)
    with pytest.raises(NonFinite, match="`fc:B`"):
        adaptr.quantize(made.replace(tensors={**made.tensors, "fc:B": torch.full((16, 2), value)}), scheme)


def test_what_fp16_does_not_hold_is_not_quantised() -> None:
    made = adaptr.create(linear(), "lora", ["fc"], r=2)
    large = made.replace(tensors={**made.tensors, "fc:B": torch.full((16, 2), 1e5)})
    with pytest.raises(NonFinite, match=r"`fc:B`.*in `fp16`"):
        adaptr.quantize(large, "fp16")
    assert adaptr.quantize(large, "bf16").quantization["error"] < 1e-2


SCHEMES = ("fp16", "bf16", "int8", "fp8", "nf4", "int4-g32")


def lost(before: Adapter, after: Adapter) -> float:
    """The largest ‖D' - D‖ / ‖D‖ of a target, dense and in fp64."""
    was, now = deltas(doubled(before)), deltas(after)
    return max(relative(now[path].dense(torch.float64), was[path].dense(torch.float64)) for path in was)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", METHODS)
def test_quantising_declares_the_error_of_the_delta(method: str, scheme: str) -> None:
    adapter = drawn(linear(), method, torch.float32, **METHODS[method])
    if method in {"vera", "shira"} and scheme not in {"fp16", "bf16"}:
        with pytest.raises(Unsupported, match=f"`{scheme}` makes nothing.*vectors.*fp16 and bf16 halve it"):
            adaptr.quantize(adapter, scheme)
        return
    small = adaptr.quantize(adapter, scheme)
    biases = [found.biases["fc"] for found in (deltas(small), deltas(adapter)) if found.biases]
    wrong = max(lost(adapter, small), relative(*biases) if biases else 0.0)
    rounded = 1e-7  # of fp32, where nothing is quantised: vectors in int8
    assert wrong - rounded <= small.quantization["error"] <= 1.01 * wrong


@pytest.mark.parametrize("method", TUCKER)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_that_of_a_core_too(method: str, scheme: str) -> None:
    adapter = drawn(conv(), method, torch.float32, **TUCKER[method])
    small = adaptr.quantize(adapter, scheme)
    assert lost(adapter, small) <= small.quantization["error"] <= 1.01 * lost(adapter, small)


@pytest.mark.parametrize("second", SCHEMES)
@pytest.mark.parametrize("first", SCHEMES)
@pytest.mark.parametrize("method", ["lora", "loha"])
def test_quantised_twice_declares_a_bound_against_the_first(method: str, first: str, second: str) -> None:
    adapter = drawn(linear(), method, torch.float32, r=2)
    small = adaptr.quantize(adaptr.quantize(adapter, first), second)
    assert lost(adapter, small) <= small.quantization["error"] <= 2 * lost(adapter, small)


def test_the_same_scheme_again_costs_nothing() -> None:
    once = adaptr.quantize(drawn(linear(), "lora", torch.float32, r=2), "bf16")
    assert adaptr.quantize(once, "bf16").quantization == once.quantization


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_delta_of_zero_has_no_error(scheme: str) -> None:
    assert adaptr.quantize(adaptr.create(linear(), "lora", ["fc"], r=2), scheme).quantization["error"] == 0


@pytest.mark.parametrize("scheme", ["fp16", "bf16"])
def test_of_scales_it_declares_the_error_of_the_change(scheme: str) -> None:
    adapter = drawn(linear(), "ia3", torch.float32, by=0.02, side="out")
    small = adaptr.quantize(adapter, scheme)
    was, now = adapter.at("fc")["l"], small.at("fc")["l"]
    wrong = float((now - was).double().norm() / (was - 1).double().norm())
    assert small.quantization["of"] == "change"
    assert wrong <= small.quantization["error"] <= 1.01 * wrong
    W = nn.functional.normalize(linear().fc.weight.detach().double(), dim=1)  # type: ignore[arg-type]
    merge = plugins.method("ia3").merge
    merged, exact = (merge(a, a.targets["fc"], of_weight(W), 1.0).weight for a in (small, doubled(adapter)))  # type: ignore[operator]
    assert relative(merged - W, exact - W) == pytest.approx(wrong), "where rows are equally long it is the weight's"


def test_what_depends_on_the_base_declares_the_error_of_its_tensors() -> None:
    for method in ("dora", "oft"):
        adapter = drawn(linear(), method, torch.float32, **TRANSFORMS[method])
        small = adaptr.quantize(adapter, "int8")
        worst = max(relative(small.at("fc")[name], tensor) for name, tensor in adapter.at("fc").items())
        assert small.quantization["of"] == "tensors"
        assert worst <= small.quantization["error"] <= 1.01 * worst


@pytest.mark.parametrize("scheme", SCHEMES)
def test_of_a_sum_that_nearly_cancels_it_declares_what_is_left(scheme: str) -> None:
    """Two deltas a thousandth apart: what each loses is small against it, and large against their difference."""
    one = drawn(linear(), "lora", torch.float32, r=2)
    near = one.replace(tensors={**one.tensors, "fc:B": one.tensors["fc:B"] * -1.001}, name="near")
    both = adaptr.create(linear(), "stack", children={"one": one, "near": near})
    small = adaptr.quantize(both, scheme)
    assert lost(both, small) <= small.quantization["error"] <= 1.01 * lost(both, small)


def test_a_stack_of_quantised_parts_declares_the_worst_of_them() -> None:
    one, two = (adaptr.quantize(drawn(linear(), "lora", torch.float32, r=2, seed=n), "int8") for n in (1, 2))
    both = adaptr.create(linear(), "stack", children={"one": one, "two": two})
    worst = max(part.quantization["error"] for part in (one, two))
    assert both.quantization == {"scheme": "int8", "error": worst, "of": "parts"}
    assert adaptr.quantize(both, "bf16").quantization["of"] == "parts"


def test_an_error_that_says_not_of_what_goes_on_as_that_of_tensors() -> None:
    small = adaptr.quantize(drawn(linear(), "lora", torch.float32, r=2), "int8")
    older = small.replace(quantization={"scheme": "int8", "error": 0.01})
    again = adaptr.quantize(older, "bf16").quantization
    assert again["of"] == "tensors"
    assert again["error"] > 0.01


def test_numbers_so_small_that_their_scale_is_rounded_keep_their_sign() -> None:
    made = adaptr.create(linear(), "lora", ["fc"], r=2)
    tiny = made.replace(tensors={**made.tensors, "fc:B": torch.full((16, 2), 2.6e-43)})
    assert bool((adaptr.quantize(tiny, "int8").at("fc")["B"] >= 0).all())
