"""LoHa, LoKr and OFT: what their formulas promise beyond the laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import BadConfig, ShapeError
from adaptr.testing import assert_close, shaken

#: The rule of the reference code: (size, factor) to (m, n). Its paper has another, so sizes are stored.
FACTORS = [
    (768, -1, 24, 32),
    (11008, -1, 86, 128),
    (4096, 8, 8, 512),
    (360, -1, 18, 20),
    (360, 16, 15, 24),
    (127, -1, 1, 127),
    (128, 64, 64, 2),
    (1, -1, 1, 1),
]


class Model(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = tiny.seeded(layer)


@pytest.mark.parametrize(("size", "factor", "m", "n"), FACTORS)
def test_lokr_factors(size: int, factor: int, m: int, n: int) -> None:
    adapter = adaptr.create(Model(nn.Linear(size, 6)), "lokr", "layer", factor=factor)
    config = adapter.targets["layer"].config
    assert (config["c"], config["d"]) == (m, n)


def test_lokr_sizes_that_are_not_the_layers_are_refused() -> None:
    adapter = adaptr.create(Model(nn.Linear(12, 6)), "lokr", "layer")
    target = adapter.targets["layer"]
    wrong = adaptr.Target("layer", "linear", (6, 12), {**target.config, "a": 3})
    with pytest.raises(ShapeError, match=r"the factors at `layer` are 3 by 3 and 3 by 4.* 9 by 12, wanted 6 by 12"):
        adaptr.attach(Model(nn.Linear(12, 6)), adapter.replace(targets={"layer": wrong}))


def operator(name: str, layer: nn.Module, **config: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    adapter = shaken(adaptr.create(Model(layer), name, "layer", **config), by=0.3)
    return plugins.method(name).operator(adapter.targets["layer"], adapter.at("layer")), adapter.at("layer")


def test_loha_has_the_square_of_the_rank() -> None:
    op, p = operator("loha", nn.Linear(40, 30), r=3, alpha=6.0)
    D = 2.0 * (p["w1_a"] @ p["w1_b"]) * (p["w2_a"] @ p["w2_b"])
    assert_close(op.dense(), D)
    assert op.low_rank().A.shape == (9, 40)
    assert int(torch.linalg.matrix_rank(op.dense(torch.float64))) == op.rank == 9
    assert_close(op.low_rank().dense(), D)


def test_lokr_converts_exactly() -> None:
    op, p = operator("lokr", nn.Linear(36, 24), r=2, alpha=3.0)
    D = 1.5 * torch.kron(p["w1"], p["w2_a"] @ p["w2_b"])
    assert_close(op.dense(), D)
    assert_close(op.low_rank().dense(), D)
    assert op.rank == op.low_rank().A.shape[0] == 4 * 2


@pytest.mark.parametrize("name", ["lora", "loha", "lokr", "adalora", "vera", "shira", "full"])
def test_every_delta_is_an_operator_of_its_target(name: str) -> None:
    op, _ = operator(name, nn.Linear(12, 8), **({"r": 2} if name != "full" else {}))
    assert op.shape == (8, 12)
    assert op.norm() > 0
    found, error = op.truncate(8)
    assert error <= 1e-6
    assert_close(found.dense(), op.dense())


def test_operators_know_stacks_of_experts() -> None:
    model = tiny.model("mixtral")
    adapter = shaken(adaptr.create(model, "full", ["mlp.down"]))
    for path, target in adapter.targets.items():
        op = plugins.method("full").operator(target, adapter.at(path))
        assert op.experts
        assert op.shape == target.shape
        assert op.size == target.shape[1:]


@pytest.mark.parametrize("weight", [1.0, 0.5, -2.0])
def test_oft_is_a_rotation_at_every_strength(weight: float) -> None:
    model = Model(nn.Linear(12, 6))
    adapter = shaken(adaptr.create(model, "oft", "layer", b=4), by=0.5)
    W = model.layer.weight.detach()
    method, p = plugins.method("oft"), adapter.at("layer")
    view = method.view(adaptr.contract.view.of_weight(W), p, method.config(adapter.targets["layer"].config), weight)
    assert_close(view.weight.norm(dim=1), W.norm(dim=1))
    assert_close(view.weight @ view.weight.T, W @ W.T)
    assert float((view.weight - W).abs().max()) > 1e-2


def test_ofts_series_tends_to_the_exact_rotation() -> None:
    model = Model(nn.Linear(12, 6))
    adapter = shaken(adaptr.create(model, "oft", "layer", b=6), by=0.02)
    method, W = plugins.method("oft"), adaptr.contract.view.of_weight(model.layer.weight.detach())
    exact = method.view(W, adapter.at("layer"), method.config({"b": 6}), 1.0).weight
    errors = [
        float((method.view(W, adapter.at("layer"), method.config({"b": 6, "terms": n}), 1.0).weight - exact).norm())
        for n in (4, 5, 6)
    ]
    assert errors[0] < 1e-2
    assert errors == sorted(errors, reverse=True)


def test_ofts_blocks_divide_the_width() -> None:
    adapter = adaptr.create(Model(nn.Linear(48, 6)), "oft", "layer", b=32)
    assert adapter.targets["layer"].config["b"] == 24
    with pytest.raises(BadConfig, match="wanted a divisor of 48"):
        plugins.method("oft").shapes(adaptr.Target("layer", "linear", (6, 48), {"b": 7}))
    with pytest.raises(BadConfig, match="`b` at least 2"):
        plugins.method("oft").config({"b": 1})
