"""LoRAs that are others only in how they learn: LoRA+, LoRA-FA and VeLoRA."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import Tensor

import adaptr
import tiny
from adaptr.testing import assert_close
from methods.layers import PATHS, Layers, inputs, made

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own


def gradients(adapter: adaptr.Adapter) -> dict[str, Tensor]:
    model = Layers()
    with adaptr.train(model, adapter) as session:
        model(inputs()).square().sum().backward()
        return {key: p.grad for key, p in session.named().items()}  # type: ignore[misc]


def as_lora(adapter: adaptr.Adapter) -> adaptr.Adapter:
    """The same factors as a LoRA."""
    fields = ("r", "alpha", "bias")
    made = adaptr.create(Layers(), "lora", list(PATHS), **{name: adapter.config[name] for name in fields})
    return made.replace(tensors={key: adapter.tensors[key] for key in made.tensors})


def test_lora_plus_has_the_groups_of_its_authors() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "lora-plus", ["attn.q", "embed"], ratio=20.0, bias=False)
    with adaptr.train(model, adapter) as session:
        keys = {id(p): key for key, p in session.named().items()}
        found = {(keys[id(p)]): (group.rate, group.decay) for group in session.groups() for p in group.params}
    wanted = {key: (0.005, 1.0) if "embed" in key else (20.0 if key[-1] == "B" else 1.0, 1.0) for key in found}
    assert found == wanted
    assert {rate for rate, _ in found.values()} == {0.005, 1.0, 20.0}


def test_lora_plus_gives_biases_no_decay() -> None:
    with adaptr.train(Layers(), made("lora-plus", bias=True, ratio=4.0)) as session:
        names = {id(p): key[-1] for key, p in session.named().items()}
        found = {names[id(p)]: (group.rate, group.decay) for group in session.groups() for p in group.params}
    assert found == {"A": (1.0, 1.0), "B": (4.0, 1.0), "b": (4.0, 0.0)}


def test_lora_fa_learns_b_alone() -> None:
    plain = made("lora-fa", r=4, corrected=False)
    found, whole = gradients(plain), gradients(as_lora(plain))
    assert set(found) == {f"{path}:B" for path in PATHS}
    for key, grad in found.items():
        assert_close(grad, whole[key])


@pytest.mark.parametrize("path", PATHS)
def test_lora_fa_steps_where_full_training_would(path: str) -> None:
    adapter = made("lora-fa", r=4, alpha=3.0)
    A, whole = adapter.at(path)["A"].double(), gradients(as_lora(adapter))[f"{path}:B"].double()
    inverse = torch.linalg.inv(A @ A.mT + 1e-8 * torch.eye(4))
    assert_close(gradients(adapter)[f"{path}:B"].double(), whole @ inverse / 0.75**2, 1e-4)


@pytest.mark.parametrize(("method", "kind"), [("lora-fa", "conv1d"), ("lora-fa", "conv2d")])
def test_lora_fa_turns_gradients_of_convolutions(method: str, kind: str) -> None:
    conv = {"conv1d": torch.nn.Conv1d, "conv2d": torch.nn.Conv2d}[kind](3, 5, 3)
    model = torch.nn.Sequential(conv)
    x = torch.randn(2, 3, *([7] * (conv.weight.ndim - 2)))
    grads = []
    for corrected in (False, True):
        adapter = adaptr.testing.shaken(adaptr.create(model, method, "0", r=2, alpha=4.0, corrected=corrected))
        with adaptr.train(model, adapter) as session:
            model(x).square().sum().backward()
            grads.append(session.named()["0:B"].grad.flatten(1).double())  # type: ignore[union-attr]
    A = adapter.at("0")["A"].flatten(1).double()
    assert_close(grads[1], grads[0] @ torch.linalg.inv(A @ A.mT) / 4, 1e-4)


@pytest.mark.parametrize("init", ["batch_average", "batch_average_once", "random"])
def test_velora_learns_as_peft_s(init: Any) -> None:
    said = peft.tuners.lora.config.VeloraConfig(num_groups=5, scale=0.7, init_type=init)
    config = peft.LoraConfig(r=4, lora_alpha=3, target_modules=["wide"], velora_config=said)
    theirs = peft.get_peft_model(Layers(), config).train()  # type: ignore[arg-type]
    layer = theirs.base_model.model.wide
    model, adapter = Layers(), adaptr.create(Layers(), "velora", "wide", r=4, alpha=3.0, groups=5, c=0.7, init=init)
    adapter = adaptr.testing.shaken(adapter)
    if init == "random":
        adapter.tensors["wide:e"].copy_(layer.lora_velora_embed["default"])
    layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = (adapter.at("wide")[n] for n in "AB")
    wanted = theirs(inputs())
    wanted.square().sum().backward()
    with adaptr.train(model, adapter) as session:
        session.prepare([lambda: (model(inputs()), None)])
        found = model(inputs())
        assert_close(found, wanted)
        found.square().sum().backward()
        grads = {key[-1]: p.grad for key, p in session.named().items()}
    assert_close(grads["A"], layer.lora_A["default"].weight.grad, 1e-5)
    assert_close(grads["B"], layer.lora_B["default"].weight.grad, 1e-5)
    kept = gradients(as_lora(made("velora", r=4, alpha=3.0)))
    assert not torch.allclose(kept["wide:A"], grads["A"])


def test_preparing_leaves_the_adapter_that_was_given_as_it_was() -> None:
    model, adapter = Layers(), made("velora", init="batch_average_once", groups=4)
    with adaptr.train(model, adapter) as session:
        session.prepare([lambda: (model(inputs()), None)])
        assert session.adapted().at("wide")["e"].any()
    assert not adapter.at("wide")["e"].any()
