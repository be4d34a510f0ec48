"""The error that a quantised adapter declares: of its delta, of its change, or of its tensors, measured in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import adaptr
from adaptr import Adapter, plugins
from adaptr.changes.deltas import deltas
from adaptr.contract.view import of_weight
from adaptr.errors import NonFinite, Unsupported
from one_layer import METHODS, TRANSFORMS, TUCKER, conv, doubled, drawn, linear, relative


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
