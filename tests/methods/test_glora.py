"""GLoRA against a naive form and PEFT's layer, and what follows from a bias that depends on the weight."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
import tiny
from adaptr.adapter import Adapter
from adaptr.testing import assert_close, bits_equal, shaken

BIASES = ("vector", "constant", "none")
FORMS = list(itertools.product(("lora", *BIASES), ("lora", "vector", "none"), BIASES))[:-1]


class Layer(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(7, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found


def made(model: nn.Module, form: tuple[str, str, str], seed: int = 1) -> Adapter:
    weights, inputs, biases = form
    fresh = adaptr.create(model, "glora", ["layer"], r=3, weights=weights, inputs=inputs, biases=biases)
    return shaken(fresh, seed)


def term(t: dict[str, Tensor], name: str) -> Any:
    if f"{name}d" in t:
        return t[f"{name}d"] @ t[f"{name}u"]
    if f"{name}v" in t:
        return t[f"{name}v"][:, None] if name in "AB" else t[f"{name}v"]
    return t.get(f"{name}c", 0.0)


def naive(model: Layer, adapter: Adapter) -> tuple[Tensor, Tensor]:
    """W' and b' in fp64."""
    t = {key.partition(":")[2]: tensor.double() for key, tensor in adapter.tensors.items()}
    W, b = model.layer.weight.double(), model.layer.bias.double()
    c = term(t, "C") if {"Cd", "Cv"} & t.keys() else W.new_zeros(7)
    return W + W * term(t, "A") + term(t, "B"), b + b * term(t, "D") + term(t, "E") + W @ c


@pytest.mark.parametrize("form", FORMS, ids="-".join)
@torch.no_grad()
def test_each_form_is_the_papers(form: tuple[str, str, str]) -> None:
    model, x = Layer(), torch.randn(4, 7)
    adapter = made(model, form)
    W, b = naive(model, adapter)
    with adaptr.attach(model, adapter):
        assert_close(model(x).double(), x.double() @ W.T + b)
    with adaptr.attach(model, adapter, merged=True):
        assert_close(model.layer.weight.double(), W)
        assert_close(model.layer.bias.double(), b)


@pytest.mark.parametrize("form", FORMS, ids="-".join)
@torch.no_grad()
def test_each_form_is_pefts(form: tuple[str, str, str]) -> None:
    peft = pytest.importorskip("peft")
    from peft.tuners.glora.layer import GloraLinear

    model, x = Layer(), torch.randn(4, 7)
    adapter = made(model, form)
    config = peft.GloraConfig(r=3, config_A_B=form[0], config_C=form[1], config_D_E=form[2])
    theirs = GloraLinear(Layer().layer, "default", config)
    for key, tensor in adapter.tensors.items():
        name = key.partition(":")[2]
        path = getattr(theirs, f"glora_{name[0]}")["default"]
        slot = getattr(path, f"X{name[1]}" if name[1] in "du" else "X")
        slot.copy_(tensor.view(slot.shape))
    with adaptr.attach(model, adapter):
        assert_close(model(x), theirs(x))


def test_a_layer_without_a_bias_has_none_of_what_makes_one() -> None:
    adapter = adaptr.create(Layer(bias=False), "glora", ["layer"])
    assert {key.partition(":")[2][0] for key in adapter.tensors} == {"A", "B"}


LAYERS = {"linear": lambda: nn.Linear(6, 5), "conv1d": lambda: nn.Conv1d(6, 5, 3, bias=False),
          "conv2d": lambda: nn.Conv2d(6, 4, 3, groups=2)}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("weights", ["lora", "vector", "constant"])
@pytest.mark.parametrize("side", ["in", "out"])
@torch.no_grad()
def test_it_meets_a_weight_from_either_side(side: str, weights: str, layer: str) -> None:
    torch.manual_seed(0)
    model: Any = nn.ModuleDict({"layer": LAYERS[layer]()})
    own, config = model["layer"], {"side": side, "weights": weights, "r": 3, "alpha": 2.0, "inputs": "none"}
    adapter = shaken(adaptr.create(model, "glora", ["layer"], **config))
    t = {key.partition(":")[2]: tensor.double() for key, tensor in adapter.tensors.items()}
    W, b = own.weight.double(), own.bias
    A = t["Ad"] @ t["Au"] if weights == "lora" else t["Av"] if weights == "vector" else t["Ac"]
    if side == "in":
        WA = torch.einsum("oi...,ij->oj...", W, A if weights == "lora" else A * torch.eye(W.shape[1]).double())
    else:
        whole = A if weights == "lora" else A[:, None] if weights == "vector" else A
        WA = W * (whole.view(*whole.shape, *(1 for _ in W.shape[2:])) if whole.ndim == 2 else whole)
    B = (t["Bd"] @ t["Bu"].flatten(1)).view(W.shape) if weights == "lora" else (t["Bv"] if "Bv" in t else t["Bc"])
    B = B if B.ndim != 1 else B.view(-1, *(1 for _ in W.shape[1:]))
    wanted = W + 2 / 3 * (WA + B)
    x = torch.randn(2, 6, *(5 for _ in W.shape[2:]))
    with adaptr.attach(model, adapter):
        attached = own(x)
    with adaptr.attach(model, adapter, merged=True):
        assert_close(own.weight.double(), wanted)
        assert_close(own(x), attached)
    assert torch.equal(own.weight.double(), W)
    assert (b is None) == (own.bias is None)


def test_what_is_merged_from_the_inputs_side_comes_out_of_a_file(tmp_path: Path) -> None:
    model: Any = tiny.model("bert")
    model.save_pretrained(tmp_path / "base")
    adapter = shaken(adaptr.create(model, "glora", r=2, side="in"), by=0.2)
    adaptr.merge(tmp_path / "base", adapter, tmp_path / "merged")
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    one, two = (tmp_path / name / "model.safetensors" for name in ("base", "back"))
    assert one.read_bytes() == two.read_bytes()


# ---------------------------------------------------------------- a bias that depends on the weight


def stack(model: nn.Module) -> list[Adapter]:
    """A LoRA, and above it what reads the weight that the LoRA has changed, and a bias that comes last."""
    return [shaken(adaptr.create(model, name), seed, 0.3) for seed, name in enumerate(("lora", "glora", "bitfit"), 1)]


@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_a_merged_stack_is_the_attached_one_and_comes_out_again(architecture: str, tmp_path: Path) -> None:
    model: Any = tiny.model(architecture)
    adapters = stack(model)
    model.save_pretrained(tmp_path / "base")
    adaptr.merge(tmp_path / "base", adapters, tmp_path / "merged")
    handles = [adaptr.attach(model, adapter) for adapter in adapters]
    with torch.no_grad():
        wanted = model(**tiny.inputs(architecture))[0]
        for handle in reversed(handles):
            handle.detach()
        found = type(model).from_pretrained(tmp_path / "merged").eval()(**tiny.inputs(architecture))[0]
    assert_close(found, wanted)
    assert adaptr.verify(tmp_path / "merged", tmp_path / "base", adapters).exact
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    one, two = (tmp_path / name / "model.safetensors" for name in ("base", "back"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_what_is_merged_live_comes_out_in_any_order(order: tuple[int, ...]) -> None:
    model = Layer()
    adapters = [
        shaken(adaptr.create(model, name, ["layer"]), seed, 0.3)
        for seed, name in enumerate(("lora", "glora", "bitfit"), 1)
    ]
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    handles = [adaptr.attach(model, adapter, merged=True) for adapter in adapters]
    left = list(range(3))
    for number in order:
        handles[number].detach()
        left.remove(number)
        fresh = Layer()
        again = [adaptr.attach(fresh, adapters[n], merged=True) for n in left]
        for name, tensor in fresh.state_dict().items():
            assert bits_equal(model.state_dict()[name], tensor), (order, left, name)
        assert len(again) == len(left)
    assert all(bits_equal(tensor, base[name]) for name, tensor in model.state_dict().items())


def test_in_one_stack_of_adapters_the_bias_sees_what_is_below() -> None:
    model = tiny.model("bert")
    stacked = adaptr.create(model, "stack", children={one.method: one for one in stack(model)})
    with torch.no_grad():
        with adaptr.attach(model, stacked):
            wanted = model(**tiny.inputs("bert"))[0]
        with adaptr.attach(model, stacked, merged=True):
            assert_close(model(**tiny.inputs("bert"))[0], wanted)
