"""Layers whose class has a forward of its own: adapters are in their weight, whatever is done with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as t
from torch import Tensor, nn
from torch.nn import functional as F

import adaptr
import tiny
from adaptr import errors, targets
from adaptr.host.own import alone
from adaptr.runtime.pool import fit
from adaptr.testing import assert_close, logits, merged, shaken

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(7))


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 3


class Clipped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(-0.5, 0.5)


class Pair(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return y, y.argmax(-1)


class Normed(nn.Embedding):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(super().forward(x), dim=-1)


class Offset(nn.Embedding):
    def forward(self, x: Tensor, past: int = 0) -> Tensor:
        return super().forward(torch.arange(past, past + x.shape[1]) + 2)


class Causal(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (2, 0)))


class Standardised(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        W = self.weight - self.weight.mean((1, 2), keepdim=True)
        return F.conv1d(x, W / W.std((1, 2), keepdim=True), self.bias)


class Same(nn.Linear):
    """What falcon does."""

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Upscaled(nn.Embedding):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.embed_scale = 4.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.embed_scale


CASES: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "scaled": (lambda: Scaled(16, 8), X),
    "clipped": (lambda: Clipped(16, 8), X),
    "pair": (lambda: Pair(16, 8), X),
    "normed": (lambda: Normed(16, 8), torch.arange(5)),
    "offset": (lambda: Offset(16, 8), torch.arange(5)[None]),
    "causal": (lambda: Causal(5, 8, 3), X),
    "standardised": (lambda: Standardised(5, 8, 3), X),
}


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(CASES[name][0]()).eval()


def first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "loha", "full"])
@pytest.mark.parametrize("name", CASES)
def test_attached_is_merged(name: str, method: str) -> None:
    base, x = model(name), CASES[name][1]
    if method == "ia3" and isinstance(base[0], nn.Embedding):
        pytest.skip("not on look-up tables")
    adapter = shaken(adaptr.create(base, method, "0"), 1, 0.5)
    before = first(base(x))
    with adaptr.attach(base, adapter) as handle, torch.no_grad():
        assert_close(first(base(x)), first(merged(model(name), [(adapter, 1.0)])(x)), to=1e-5)
        handle.weight = 0.5
        assert_close(first(copy.deepcopy(base)(x)), first(merged(model(name), [(adapter, 0.5)])(x)), to=1e-5)
    assert torch.equal(first(base(x)), before)


@pytest.mark.parametrize("name", CASES)
def test_it_learns(name: str) -> None:
    base, x = model(name), CASES[name][1]
    with adaptr.train(base, shaken(adaptr.create(base, "lora", "0"), 1, 0.5)) as session:
        y = first(base(x))
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in session.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", [Same(16, 8), Same(16, 8, bias=False), Upscaled(16, 8), nn.Linear(16, 8)])
def test_what_only_does_as_its_kind_is_called(layer: nn.Module, dtype: torch.dtype) -> None:
    """An adapter beside it costs less."""
    assert not alone(copy.deepcopy(layer).to(dtype))


@pytest.mark.parametrize("name", CASES)
def test_trying_leaves_no_trace(name: str) -> None:
    layer = model(name)[0]
    state, before = torch.get_rng_state(), dict(layer.__dict__)
    assert alone(layer)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.__dict__ == before


def test_a_table_that_shortens_its_rows_shortens_the_adapted_ones() -> None:
    base, ids = nn.Sequential(nn.Embedding(16, 8, max_norm=1.0)), torch.arange(5)
    adapter = shaken(adaptr.create(base, "lora", "0"), 1, 0.5)
    with torch.no_grad():
        wanted = merged(base, [(adapter, 1.0)])(ids)
        with adaptr.attach(base, adapter):
            assert_close(base(ids), wanted, to=1e-5)


@pytest.mark.parametrize("name", ["opt", "bart", "whisper"])
def test_tables_of_positions(name: str) -> None:
    base = tiny.model(name)
    adapter = shaken(adaptr.create(base, "lora", "*embed_positions", r=4), 1, 0.5)
    given = tiny.inputs(name)
    with torch.no_grad():
        before, wanted = logits(base(**given)), logits(merged(base, [(adapter, 1.0)])(**given))
        with adaptr.attach(base, adapter):
            assert_close(logits(base(**given)), wanted, to=1e-5)
    assert not torch.allclose(before, wanted, atol=1e-3)


def test_a_router_that_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    base = t.PhimoeForCausalLM(t.PhimoeConfig(**tiny.GROUPED, num_local_experts=4)).eval()
    adapter = shaken(adaptr.create(base, "lora", "all-linear", r=4), 1, 0.1)
    ids = torch.arange(3, 11)[None]
    assert any(path.endswith("router") for path in adapter.targets)
    with torch.no_grad():
        wanted = merged(base, [(adapter, 1.0)])(ids).logits
        with adaptr.attach(base, adapter):
            assert_close(base(ids).logits, wanted, to=2e-5)


def test_what_has_no_weight_or_an_input_is_refused_and_a_row_too() -> None:
    base = model("scaled")
    with pytest.raises(errors.Unsupported, match="dropout"):
        adaptr.train(base, adaptr.create(base, "lora", "0", dropout=0.1))
    with pytest.raises(errors.Unsupported, match="no linear layer"):
        fit.require(base, adaptr.create(base, "lora", "0"))
    assert type(base[0]) is Scaled


def test_a_weight_in_eight_bits_with_scales_elsewhere_is_not_read() -> None:
    base = nn.Sequential(Scaled(16, 8))
    base[0].weight = nn.Parameter(base[0].weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    assert not alone(base[0])
    with pytest.raises(errors.Unsupported, match="packed"):
        adaptr.create(base, "dora", "0")


def test_a_convolution_is_no_stack_of_experts() -> None:
    """Its weight has three sides as well."""
    base = nn.Sequential(nn.Conv1d(5, 5, 3))
    assert list(adaptr.create(base, "lora", "*").targets) == ["0"]


def test_a_parameter_that_is_read_past_its_layer_is_found() -> None:
    base = model("scaled")
    with adaptr.attach(base, shaken(adaptr.create(base, "lora", "0"))):
        assert targets.parameter(base, "0.weight") is base[0]._parameters["weight"]
        with pytest.raises(errors.TargetNotFound, match=r"nearest name is `0\.weight`"):
            targets.parameter(base, "0.weigth")
