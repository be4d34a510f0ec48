"""Forms of two factors against the papers' formulas, written out."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch

import adaptr
import tiny
from adaptr.errors import BadConfig
from adaptr.testing import assert_close, shaken
from methods.layers import PATHS, Layers, change, inputs, made

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own


@pytest.mark.parametrize("path", PATHS)
def test_rslora_divides_by_the_root(path: str) -> None:
    adapter = made("rslora", r=4, alpha=3.0)
    p = adapter.at(path)
    assert_close(change(adapter, path), 1.5 * (p["B"] @ p["A"]).double())


def test_rslora_without_its_scale_is_refused() -> None:
    with pytest.raises(BadConfig, match="rslora"):
        adaptr.create(Layers(), "rslora", rslora=False)


@pytest.mark.parametrize("path", PATHS)
def test_multilora_sums_its_loras(path: str) -> None:
    adapter = made("multilora", n=3, r=2, alpha=3.0)
    p = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    wanted = 1.5 * sum(torch.diag(p["v"][i]) @ p["B"][i] @ p["A"][i] for i in range(3))
    assert_close(change(adapter, path), wanted)


def test_multilora_begins_with_factors_as_wide_as_one_lora_has() -> None:
    p = adaptr.create(Layers(), "multilora", "wide", n=40, r=4).at("wide")
    assert p["A"].abs().max() == pytest.approx(12**-0.5, rel=0.02)
    assert p["B"].abs().max() == pytest.approx(4**-0.5, rel=0.02)
    assert not p["v"].any()


@pytest.mark.parametrize("path", PATHS)
def test_qalora_sums_groups_of_inputs(path: str) -> None:
    adapter = made("qalora", r=2, alpha=3.0, group=4)
    p = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    width = adapter.targets[path].shape[1]
    P = torch.zeros(width // 4, width, dtype=torch.float64)
    for i in range(width):
        P[i // 4, i] = 1.0
    assert_close(change(adapter, path), 1.5 * p["B"] @ p["A"] @ P)


def test_qalora_in_groups_that_do_not_fit_is_refused() -> None:
    with pytest.raises(BadConfig, match="divisor of 12"):
        adaptr.create(Layers(), "qalora", "wide", group=5)


@pytest.mark.parametrize("side", ["A", "B", "none"])
def test_bd_lora_is_peft_s(side: str) -> None:
    lists = {"target_modules_bd_a": ["wide"] if side == "A" else [], "target_modules_bd_b": ["wide"] * (side == "B")}
    said: Any = peft.tuners.lora.config.BdLoraConfig(**lists, nblocks=2, match_strict=False)
    config = peft.LoraConfig(r=4, lora_alpha=3, target_modules=["wide"], use_bdlora=said)
    theirs = peft.get_peft_model(Layers(), config)  # type: ignore[arg-type]
    layer = theirs.base_model.model.wide
    adapter = shaken(adaptr.create(Layers(), "bd-lora", "wide", r=4, alpha=3.0, side=side, blocks=2))
    for name in "AB":
        slot = getattr(layer, f"lora_{name}")["default"]
        assert slot.weight.shape == adapter.at("wide")[name].shape
        slot.weight.data = adapter.at("wide")[name]
    model = Layers()
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert_close(model(inputs()), theirs(inputs()))


def test_bd_lora_splits_by_inputs_what_ends_a_part() -> None:
    targets = adaptr.create(tiny.model("llama"), "bd-lora", r=2).targets
    found = {path.rpartition(".")[2]: target.config["side"] for path, target in targets.items()}
    assert {name for name, side in found.items() if side == "A"} == {"o_proj", "down_proj"}
    assert {name for name, side in found.items() if side == "B"} == set(found) - {"o_proj", "down_proj"}


def test_bd_lora_in_blocks_that_do_not_fit_is_refused() -> None:
    with pytest.raises(BadConfig, match="blocks"):
        adaptr.create(Layers(), "bd-lora", "wide", r=4, blocks=3)


FOUR = [{}, {"u": False, "v": False}, {"learn_a": False, "learn_b": False}, {"learn_b": False, "u": False}]


@pytest.mark.parametrize("config", FOUR)
def test_tied_lora_has_one_pair_for_all_layers_with_rows_for_each_name(config: dict[str, bool]) -> None:
    adapter = made("tied-lora", r=2, alpha=3.0, **config)
    found = {key[1:]: tensor for key, tensor in adapter.tensors.items() if key[0] == ":"}
    shared = {name.removesuffix("_"): tensor.double() for name, tensor in found.items()}
    assert {name: tuple(t.shape) for name, t in shared.items()} == {"A": (2, 12), "B": (20, 2)}
    for path, rows, columns in (("wide", slice(0, 8), 12), ("turned", slice(8, 20), 8)):
        own = {name: tensor.double() for name, tensor in adapter.at(path).items()}
        u, v = own.get("u", torch.ones(2)).double(), own.get("v", torch.ones(20)[rows]).double()
        wanted = 1.5 * torch.diag(v) @ shared["B"][rows] @ torch.diag(u) @ shared["A"][:, :columns]
        assert_close(change(adapter, path), wanted)


def test_tied_lora_with_a_random_b_begins_at_zero_or_not_at_all() -> None:
    assert not adaptr.create(Layers(), "tied-lora", list(PATHS), learn_b=False).at("wide")["v"].any()
    with pytest.raises(BadConfig, match="both false"):
        adaptr.create(Layers(), "tied-lora", list(PATHS), learn_b=False, v=False)


def test_tied_lora_learns_its_pair_from_all_layers() -> None:
    model = Layers()
    with adaptr.train(model, made("tied-lora", r=2)) as session:
        model(inputs()).square().sum().backward()
        named = session.named()
    assert sorted(named) == [":A", ":B", "turned:u", "turned:v", "wide:u", "wide:v"]
    assert bool((named[":B"].grad.abs().sum(1) > 0).all())  # type: ignore[union-attr]
