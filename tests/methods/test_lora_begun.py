"""LoRAs that begin with a part of the weight: against decompositions, and against PEFT, which changes the base."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch

import adaptr
from adaptr.errors import BadConfig
from adaptr.testing import assert_close, shaken
from methods.layers import PATHS, Layers, change, inputs, made

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own
SCALE = 3.0 / 4


def top(W: torch.Tensor, r: int) -> torch.Tensor:
    U, S, Vh = torch.linalg.svd(W.double(), full_matrices=False)
    return U[:, :r] @ torch.diag(S[:r]) @ Vh[:r]


@pytest.mark.parametrize("method", ["pissa", "olora"])
@pytest.mark.parametrize("path", PATHS)
def test_the_change_is_that_of_the_factors_beside_those_it_began_with(method: str, path: str) -> None:
    adapter = made(method, r=4, alpha=3.0)
    p = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    assert_close(change(adapter, path), SCALE * (p["B"] @ p["A"] - p["B0"] @ p["A0"]))
    assert adapter[path].rank == 8


@pytest.mark.parametrize("path", PATHS)
def test_pissa_begins_with_the_largest_triplets_shared_evenly(path: str) -> None:
    p = adaptr.create(Layers(), "pissa", list(PATHS), r=4, alpha=3.0).at(path)
    assert_close(SCALE * (p["B"] @ p["A"]).double(), top(Layers().weight(path), 4))
    assert_close((p["B"].mT @ p["B"]).double(), (p["A"] @ p["A"].mT).double())


def test_alpha_is_the_rank_unless_it_is_said() -> None:
    assert adaptr.create(Layers(), "pissa", r=3).config["alpha"] == 3.0


def test_a_few_rounds_find_what_the_decomposition_does() -> None:
    p = adaptr.create(Layers(), "pissa", list(PATHS), r=2, rounds=4).at("wide")
    assert_close((p["B"] @ p["A"]).double(), top(Layers().weight("wide"), 2))


@pytest.mark.parametrize("path", PATHS)
def test_olora_begins_with_the_first_columns_made_orthonormal(path: str) -> None:
    p = adaptr.create(Layers(), "olora", list(PATHS), r=4).at(path)
    W = Layers().weight(path)
    assert_close(p["B"].mT @ p["B"], torch.eye(4))
    assert_close((p["B"] @ p["A"])[:, :4], W[:, :4])
    assert bool((p["A"].diagonal() > 0).all())


@pytest.mark.parametrize("path", PATHS)
def test_mica_learns_what_the_weight_hardly_does(path: str) -> None:
    adapter = made("mica", r=2, alpha=3.0)
    p, W = adapter.at(path), Layers().weight(path)
    U = torch.linalg.svd(W, full_matrices=False).U[:, -2:]
    assert_close(p["B"] @ p["B"].mT, U @ U.mT)
    assert_close(change(adapter, path), 1.5 * (p["B"] @ p["A"]).double())


@pytest.mark.parametrize("path", PATHS)
def test_kasa_takes_the_smallest_triplets_out(path: str) -> None:
    adapter, W = made("kasa", r=2, alpha=3.0), Layers().weight(path)
    p = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    wanted = top(W, 6) + 1.5 * p["B"] @ torch.diag(p["g"]) @ p["A"]
    assert_close(W.double() + change(adapter, path), wanted)


def test_kasa_asks_for_small_values_and_orthogonal_factors() -> None:
    model = Layers()
    with adaptr.train(model, made("kasa", r=2, beta=0.5, gamma=0.25)) as session:
        wanted = 0.0
        for path in PATHS:
            A, B, g = (session.adapter.at(path)[name] for name in "ABg")
            one = torch.eye(2)
            wanted += 0.5 * float((g**2).sum()) + 0.25 * float((B.mT @ B - one).norm() + (A @ A.mT - one).norm())
        assert float(session.penalty()) == pytest.approx(wanted, rel=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "most"), [("pissa", 8), ("olora", 8), ("mica", 8), ("kasa", 7)])
def test_a_rank_above_the_weights_is_refused(method: str, most: int) -> None:
    adaptr.create(Layers(), method, "wide", r=most)
    with pytest.raises(BadConfig, match="wide"):
        adaptr.create(Layers(), method, "wide", r=most + 1)


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_there_must_be_a_scale(method: str) -> None:
    with pytest.raises(BadConfig, match="positive"):
        adaptr.create(Layers(), method, "wide", r=2, alpha=0.0)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("pissa", "wide", {"init_lora_weights": "pissa"}),
        ("pissa", "turned", {"init_lora_weights": "pissa", "fan_in_fan_out": True}),
        ("olora", "wide", {"init_lora_weights": "olora"}),
        ("mica", "wide", {"init_lora_weights": "mica"}),
        ("mica", "turned", {"init_lora_weights": "mica", "fan_in_fan_out": True}),
        ("kasa", "wide", {"kasa_config": {}}),
    ],
)
def test_peft_does_the_same(method: str, path: str, said: dict[str, Any]) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=3, target_modules=[path], **said)
    theirs = peft.get_peft_model(Layers(), config)  # type: ignore[arg-type]
    layer = theirs.base_model.model.get_submodule(path)
    adapter = shaken(adaptr.create(Layers(), method, path, r=4, alpha=3.0))
    own = adapter.at(path)
    if method != "mica":  # whose B is its own, up to signs
        layer.lora_B["default"].weight.data = own["B"]
    else:
        adapter.tensors[f"{path}:B"].copy_(layer.lora_B["default"].weight.detach())  # type: ignore[attr-defined]
    layer.lora_A["default"].weight.data = own["A"]
    if method == "kasa":
        layer.lora_diag["default"].data = own["g"]
    model = Layers()
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert_close(model(inputs()), theirs(inputs()), 2e-5)
