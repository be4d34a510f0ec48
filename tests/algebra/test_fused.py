"""One product for layer and delta: the same outputs and gradients as the two, and only where it is as exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from adaptr.algebra import fused
from adaptr.algebra.dense import Dense
from adaptr.algebra.sparse import Sparse
from adaptr.contract import View
from adaptr.host.layer import base_view
from adaptr.testing.closeness import assert_close


def layer(dtype: torch.dtype = torch.float32) -> View:
    torch.manual_seed(0)
    return base_view(nn.Linear(6, 4).to(dtype).requires_grad_(False))


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape))).requires_grad_()


def gradients(y: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(y.sin().sum(), of, retain_graph=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dense_delta_is_one_product_with_the_layer(dtype: torch.dtype) -> None:
    base, D, x = layer(dtype), drawn(4, 6, dtype=dtype), drawn(2, 5, 6, dtype=dtype)
    found, wanted = fused.summed(Dense(D, 0.5), base, x), base(x) + 0.5 * linear(x, D)
    assert found is not None
    assert_close(found, wanted)
    for one, other in zip(gradients(found, x, D), gradients(wanted, x, D), strict=True):
        assert_close(one, other)
    with torch.no_grad():
        assert_close(Dense(D, 0.5).forward(base, x), wanted)


def test_a_sparse_delta_gets_the_gradients_of_its_places() -> None:
    base, v, x, places = layer(), drawn(3), drawn(2, 5, 6), torch.tensor([1, 7, 20])
    D = torch.zeros(24).index_put((places,), v).view(4, 6)
    found = fused.summed(Sparse(places, v, (4, 6)), base, x)
    assert found is not None
    for one, other in zip(gradients(found, x, v), gradients(base(x) + linear(x, D), x, v), strict=True):
        assert_close(one, other)


WHY = ["few tokens", "half precision", "another dtype", "a layer that learns", "no plain layer"]


@pytest.mark.parametrize("why", WHY)
def test_the_sum_is_not_made_where_it_costs_more_or_loses_the_delta(why: str) -> None:
    dtype = torch.bfloat16 if why == "half precision" else torch.float32
    base, x = layer(dtype), drawn(1 if why == "few tokens" else 2, 5, 6, dtype=dtype)
    D = drawn(4, 6, dtype=torch.bfloat16 if why == "another dtype" else dtype)
    if why == "a layer that learns":
        base = base_view(nn.Linear(6, 4))
    if why == "no plain layer":
        base = base.then(call=base.call)
    assert fused.summed(Dense(D), base, x) is None
    if why != "another dtype":
        assert_close(Dense(D).forward(base, x), base(x) + linear(x, D))


def test_vectors_between_frozen_matrices_get_the_gradients_of_the_long_way() -> None:
    base, x, d, b = layer(), drawn(2, 5, 6), drawn(3), drawn(4)
    A, B = (drawn(*shape).detach() for shape in ((3, 6), (4, 3)))
    found, wanted = fused.between(base, x, A, B, d, b), base(x) + b * linear(d * linear(x, A), B)
    assert found is not None
    assert_close(found, wanted)
    for one, other in zip(gradients(found, x, d, b), gradients(wanted, x, d, b), strict=True):
        assert_close(one, other)
    still = fused.between(base, x.detach(), A, B, d, b)
    assert still is not None
    for one, other in zip(gradients(still, d, b), gradients(wanted, d, b), strict=True):
        assert_close(one, other)
