"""DID and SAID against the projection as a matrix, and what is drawn for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import adaptr
from adaptr.algebra import fastfood
from adaptr.errors import BadConfig, DigestMismatch
from adaptr.testing import assert_close, shaken

PATHS = ["one", "two", "norm"]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"one": nn.Linear(7, 5), "two": nn.Linear(5, 3), "norm": nn.LayerNorm(3)})


def matrix(name: str, size: int, n: int, seed: int = 0) -> Tensor:
    """P (size, n), its parts written out."""
    L = fastfood.length(size)
    made = fastfood.drawn(seed, name, size, n)
    H = torch.ones(1, 1, dtype=torch.float64)
    while len(H) < L:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    order, g, b = made[:L].long(), made[L : 2 * L].view(torch.float32), made[2 * L :].view(torch.float32)
    PI, B = torch.eye(L, dtype=torch.float64)[order], torch.eye(L, dtype=torch.float64)[:, : len(b)] * b
    P = (H @ torch.diag(g.double()) @ PI @ H @ B)[:size]
    return nn.functional.pad(P, (0, n - P.shape[1]))


@pytest.mark.parametrize("method", ["did", "intrinsic-said"])
@pytest.mark.parametrize("d", [9, 50])
def test_a_weight_moves_by_its_projection_of_the_one_vector(method: str, d: int) -> None:
    """35, 15 and 3 numbers: of a long vector the first of it."""
    base = model()
    adapter = shaken(adaptr.create(base, method, PATHS, d=d, seed=3))
    z = adapter.tensors[":z"].double()
    assert len(z) == (d if method == "did" else d - 3)
    with adaptr.attach(base, adapter, merged=True):
        moved = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for path in PATHS:
        before = base.get_submodule(path).get_parameter("weight")
        scale = adapter.tensors[f"{path}:l"].double() if method == "intrinsic-said" else 1.0
        D = (scale * matrix(path, before.numel(), len(z), 3) @ z).view(before.shape)
        assert_close(moved[f"{path}.weight"].double(), before.double() + D)


def test_columns_are_of_about_one_length() -> None:
    P = matrix("w", 700, 64)
    assert P.norm(dim=0).mean().item() == pytest.approx(1.0, abs=0.05)
    assert (P.T @ P - torch.eye(64)).abs().max().item() < 0.25, "columns are far from right angles to each other"


@pytest.mark.parametrize("reference", [False, True])
def test_the_gradient_is_that_of_the_projection_or_as_the_reference_has_it(reference: bool) -> None:
    base, x = model(), torch.randn(4, 7)
    adapter = shaken(adaptr.create(base, "did", ["one"], d=9, reference_grad=reference))
    with adaptr.train(base, adapter) as session:
        base["one"](x).square().sum().backward()
        (found,) = (p.grad for p in session.parameters())
        W = base["one"].weight.detach().double()
        W = (W + (matrix("one", 35, 9) @ adapter.tensors[":z"].double()).view(5, 7)).requires_grad_()
        nn.functional.linear(x.double(), W, base["one"].bias.detach().double()).square().sum().backward()
    assert W.grad is not None
    assert found is not None
    assert_close(found.double(), matrix("one", 35, 9).T @ W.grad.flatten() / (64 if reference else 1))


def test_what_is_drawn_is_the_same_for_ever() -> None:
    found = fastfood.digest(fastfood.drawn(7, "layer", 100, 10))
    assert found == "f0ff95ee7585aa56a5eab7f9ababf2848064e64d35f819ed99d011695c4afb66"


def test_what_is_drawn_otherwise_is_refused(tmp_path: Path) -> None:
    base = model()
    adapter = shaken(adaptr.create(base, "did", ["one"], d=9))
    said = {**adapter.targets["one"].config, "seed": 1}
    other = adapter.replace(targets={"one": adaptr.Target("one", "linear", (5, 7), said)})
    with pytest.raises(DigestMismatch, match="drawn from seed 1"), adaptr.attach(base, other):
        base["one"](torch.randn(2, 7))


def test_a_file_has_the_vector_alone(tmp_path: Path) -> None:
    adapter = adaptr.create(nn.ModuleDict({"one": nn.Linear(512, 512)}), "did", ["one"], d=50)
    adaptr.save(adapter, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size < 4096


def test_numbers_for_each_weight_come_out_of_the_d(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="more than 3"):
        adaptr.create(model(), "intrinsic-said", PATHS, d=3)
