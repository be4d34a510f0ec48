"""Methods over a base in NF4: bitsandbytes is the oracle of the base, the papers' formulas of where they begin."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
from adaptr.errors import BadConfig
from adaptr.testing import assert_close, shaken
from adaptr_plugins.transform._nf4 import nf4

functional = pytest.importorskip("bitsandbytes.functional")
METHODS = ("qlora", "qpissa", "loftq", "lq-lora")


def theirs(W: Tensor, double: bool = False) -> Tensor:
    packed, state = functional.quantize_4bit(W, blocksize=64, compress_statistics=double, quant_type="nf4")
    found: Tensor = functional.dequantize_4bit(packed, state)
    return found


def weight(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def model(rows: int = 192, columns: int = 128) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(columns, rows), nn.Linear(rows, columns, bias=False)).eval()


def values(adapter: adaptr.Adapter, path: str = "0") -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in adapter.at(path).items()}


SHAPES = [
    (96, 128),
    (33, 64),
    (5, 100),
    (300, 512),
]  # its way back is wrong on CPUs where rows end inside of blocks of 32


@pytest.mark.parametrize("shape", SHAPES)
def test_nf4_is_that_of_bitsandbytes_to_the_bit(shape: tuple[int, int]) -> None:
    assert torch.equal(nf4(weight(*shape)), theirs(weight(*shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_doubly_it_is_too_but_for_scales_between_two_codes(shape: tuple[int, int]) -> None:
    """Of which the library does not always find the nearest."""
    found, wanted = (Q(weight(*shape), True) for Q in (nf4, theirs))
    assert float((found != wanted).float().mean()) < 0.005
    assert float((found - wanted).norm() / wanted.norm()) < 1e-3


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_lies_on_the_grid_stays(dtype: torch.dtype, double: bool) -> None:
    """Also what was rounded since, and what has doubly quantised scales."""
    W = theirs(weight(64, 128), double=True).to(dtype).float()
    assert torch.equal(nf4(W, double), W)


def test_a_block_of_zeros_is_zeros() -> None:
    W = weight(4, 64)
    W[1] = 0
    assert not nf4(W)[1].any()
    assert bool(nf4(W).isfinite().all())


def test_qlora_learns_around_what_nf4_leaves() -> None:
    adapter = shaken(adaptr.create(model(), "qlora", r=4, alpha=6.0))
    p, base = values(adapter), model()
    W = theirs(base[0].weight.detach(), True).double() + 1.5 * p["B"] @ p["A"]  # type: ignore[index]
    x = weight(3, 128).double()
    with torch.no_grad(), adaptr.attach(base, adapter):
        found = base[0](x.float())  # type: ignore[index]
    assert_close(found.double(), x @ W.mT + base[0].bias.double())  # type: ignore[index]


@pytest.mark.parametrize("alpha", [4.0, 6.0])
def test_qpissa_once_is_pissa_s_residual_in_nf4(alpha: float) -> None:
    W = model()[0].weight.detach()  # type: ignore[index]
    p = values(adaptr.create(model(), "qpissa", r=4, alpha=alpha, times=1))
    U, S, Vh = torch.linalg.svd(W.double(), full_matrices=False)
    assert_close(alpha / 4 * p["B"] @ p["A"], (U[:, :4] * S[:4]) @ Vh[:4])
    assert torch.equal(p["A"], p["A0"])
    assert torch.equal(p["B"], p["B0"])


def test_qpissa_twice_splits_what_the_first_left() -> None:
    W = model()[0].weight.detach()  # type: ignore[index]
    once, twice = (values(adaptr.create(model(), "qpissa", r=4, times=n)) for n in (1, 2))
    left = W - theirs(W - (once["B"] @ once["A"]).float())
    U, S, Vh = torch.linalg.svd(left.double(), full_matrices=False)
    assert_close(twice["B"] @ twice["A"], (U[:, :4] * S[:4]) @ Vh[:4], 1e-4)


def error(method: str, **config: Any) -> float:
    """How far a fresh one is from the weight itself."""
    base = model()
    W = base[0].weight.detach().double()  # type: ignore[index]
    p = values(adaptr.create(base, method, r=8, **config))
    s = config.get("alpha", 8.0) / 8
    Q = theirs((W - s * p["B0"] @ p["A0"]).float(), config.get("double", method == "lq-lora")).double()
    return float((Q + s * p["B"] @ p["A"] - W).norm() / W.norm())


def test_loftq_once_is_nf4_and_the_best_that_factors_can_add() -> None:
    W = model()[0].weight.detach()  # type: ignore[index]
    p = values(adaptr.create(model(), "loftq", r=4, times=1))
    U, S, Vh = torch.linalg.svd((W - theirs(W)).double(), full_matrices=False)
    assert_close(p["B"] @ p["A"], (U[:, :4] * S[:4]) @ Vh[:4], 1e-4)
    assert not p["A0"].any()
    assert not p["B0"].any()


@pytest.mark.parametrize("method", ["qpissa", "loftq", "lq-lora"])
@pytest.mark.parametrize("alpha", [8.0, 12.0])
def test_a_fresh_one_is_nearer_to_the_weight_than_nf4(method: str, alpha: float) -> None:
    W = model()[0].weight.detach()  # type: ignore[index]
    assert error(method, alpha=alpha) < float((theirs(W) - W).norm() / W.norm())


def test_more_turns_are_never_further_away_where_the_nearest_is_taken() -> None:
    for method in ("loftq", "lq-lora"):
        errors = [error(method, times=n) for n in (1, 2, 5)]
        assert sorted(errors, reverse=True) == errors


def test_lq_lora_is_nearer_where_the_loss_cares() -> None:
    base = model()
    x = weight(64, 128) * (torch.arange(128) < 8) * 50
    made = adaptr.create(base, "lq-lora", "0", r=4, fisher=True)
    with adaptr.train(base, made) as session:
        session.prepare([lambda: (base(x).square().mean(), None)])
        cared = session.adapted()
    W = base[0].weight.detach()  # type: ignore[index]

    def far(adapter: adaptr.Adapter) -> float:
        p = values(adapter)
        Q = theirs((W - p["B0"] @ p["A0"]).float(), True)
        return float((Q + p["B"] @ p["A"] - W)[:, :8].norm())

    assert far(cared) < 0.8 * far(made)


@pytest.mark.parametrize("method", ["qlora", "loftq"])
def test_on_a_base_in_nf4_it_is_what_it_is_on_that_base_in_floats(method: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    dense = model()
    packed = copy.deepcopy(dense)
    for i in range(2):
        own = dense[i]  # type: ignore[index]
        layer = bitsandbytes.nn.Linear4bit(
            own.in_features, own.out_features, own.bias is not None, torch.float32, True, "nf4"
        )
        layer.load_state_dict(own.state_dict())
        packed[i] = layer.to("cpu")  # type: ignore[index, operator]
        layer.weight = layer.weight.to("cpu")
        own.weight.data = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    adapter = shaken(adaptr.create(dense, method, r=4))
    x = weight(3, 128)
    with torch.no_grad():
        own = float((packed(x) - dense(x)).abs().max())  # what the library's products round
        with adaptr.attach(dense, adapter), adaptr.attach(packed, adapter):
            assert float((packed(x) - dense(x)).abs().max()) <= 3 * own + 1e-5


@pytest.mark.parametrize("said", [{"r": 129}, {"alpha": 0.0}, {"times": 0}])
def test_what_can_not_begin_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="`times`"):
        adaptr.create(model(), "loftq", "0", **said)


@pytest.mark.parametrize("method", METHODS)
def test_merged_it_is_what_was_attached(method: str, tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    base, adapter = model(), shaken(adaptr.create(model(), method, r=4))
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    adaptr.merge(tmp_path / "base.safetensors", adapter, tmp_path / "out.safetensors")
    merged = model()
    merged.load_state_dict(load_file(tmp_path / "out.safetensors"))
    x = weight(3, 128)
    with torch.no_grad(), adaptr.attach(base, adapter):
        assert_close(merged(x), base(x))
