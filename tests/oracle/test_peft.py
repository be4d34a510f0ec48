"""The same tensors in PEFT's layers and in ours give the same outputs."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import adaptr
import tiny
from adaptr.testing import assert_close, shaken

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

LAYERS: dict[str, tuple[nn.Module, Any]] = {
    "linear": (nn.Linear(12, 20), (3, 5, 12)),
    "linear-without-bias": (nn.Linear(20, 12, bias=False), (4, 20)),
    "conv1d-of-gpt2": (Conv1D(20, 12), (3, 5, 12)),
    "embedding": (nn.Embedding(30, 12), None),
    "conv2d": (nn.Conv2d(6, 10, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 6, 8, 9)),
    "conv2d-pointwise": (nn.Conv2d(6, 10, 1), (2, 6, 4, 4)),
    "conv1d": (nn.Conv1d(6, 10, 3, stride=2), (2, 6, 9)),
}
VARIANTS = {
    "lora": ("lora", {}, {}),
    "rslora": ("lora", {"use_rslora": True}, {"rslora": True}),
    "dora": ("dora", {"use_dora": True}, {}),
}


class Model(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = tiny.seeded(copy.deepcopy(layer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def drawn(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def wrapped(model: nn.Module, config: Any, adapter: adaptr.Adapter, rename: dict[str, str]) -> nn.Module:
    """PEFT's model with the adapter's tensors in it. Every parameter of PEFT's must be set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.inject_adapter_in_model(config, copy.deepcopy(model)).eval()
    seen = set()
    for name, parameter in theirs.named_parameters():
        for mark, param in rename.items():
            if mark in name:
                path = name[: name.index(mark)].rstrip(".").removesuffix(".base_layer")
                value = adapter.tensors[f"{path}:{param}"]
                with torch.no_grad():
                    parameter.copy_(value.reshape(parameter.shape))
                seen.add(f"{path}:{param}")
    assert seen == set(adapter.tensors)
    return theirs


LORA_NAMES = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_magnitude_vector": "m",
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_low_rank_layers(layer: str, variant: str) -> None:
    module, shape = LAYERS[layer]
    model = Model(module).eval()
    name, theirs, ours = VARIANTS[variant]
    x = (
        torch.randint(0, 30, (3, 5))
        if shape is None
        else torch.randn(shape, generator=torch.Generator().manual_seed(2))
    )
    adapter = shaken(adaptr.create(model, name, "layer", r=4, alpha=12.0, **ours), by=0.3)
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=["layer"], fan_in_fan_out=layer.endswith("gpt2"), **theirs
    )
    with torch.no_grad():
        wanted = wrapped(model, config, adapter, LORA_NAMES)(x)
        with adaptr.attach(model, adapter):
            found = model(x)
    assert (wanted - model(x)).abs().max() > 1e-2
    assert_close(found, wanted)


@pytest.mark.parametrize("layer", ["linear", "linear-without-bias", "conv1d-of-gpt2", "conv2d"])
@pytest.mark.parametrize("side", ["out", "in"])
def test_ia3_layers(layer: str, side: str) -> None:
    module, shape = LAYERS[layer]
    model = Model(module).eval()
    x = drawn(shape)
    adapter = shaken(adaptr.create(model, "ia3", "layer", side=side), by=0.3)
    config = peft.IA3Config(
        target_modules=["layer"],
        feedforward_modules=["layer"] if side == "in" else [],
        fan_in_fan_out=layer.endswith("gpt2"),
    )
    with torch.no_grad():
        wanted = wrapped(model, config, adapter, {"ia3_l": "l"})(x)
        with adaptr.attach(model, adapter):
            assert_close(model(x), wanted)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_whole_models(name: str, variant: str) -> None:
    model = tiny.model(name)
    method, theirs, ours = VARIANTS[variant]
    adapter = shaken(adaptr.create(model, method, r=4, alpha=12.0, **ours))
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=list(adapter.targets), fan_in_fan_out=name == "gpt2", **theirs
    )
    with torch.no_grad():
        wanted = wrapped(model, config, adapter, LORA_NAMES)(**tiny.inputs(name)).logits
        with adaptr.attach(model, adapter):
            assert_close(model(**tiny.inputs(name)).logits, wanted)


def test_expert_stacks() -> None:
    """PEFT keeps A expert after expert (e r, in) and B with the experts fastest (out, r e)."""
    model = tiny.model("mixtral")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "experts" in name:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    path = "model.layers.0.mlp.experts.down_proj"
    adapter = shaken(adaptr.create(model, "lora", [path], r=4, alpha=12.0), by=0.3)
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=[], target_parameters=["layers.0.mlp.experts.down_proj"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.inject_adapter_in_model(config, copy.deepcopy(model)).eval()
    A, B = adapter.tensors[f"{path}:A"], adapter.tensors[f"{path}:B"]
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_A" in name:
                parameter.copy_(A.reshape(parameter.shape))
            if "lora_B" in name:
                parameter.copy_(B.permute(1, 2, 0).reshape(parameter.shape))
        wanted = theirs(**tiny.inputs("mixtral")).logits
        with adaptr.attach(model, adapter):
            assert_close(model(**tiny.inputs("mixtral")).logits, wanted)
    assert (wanted - model(**tiny.inputs("mixtral")).logits).abs().max() > 1e-4


# ---------------------------------------------------------------- methods PEFT does not have: by hand


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_houlsby_by_hand(name: str) -> None:
    """y = h + U gelu(D h + b_d) + b_u behind the last dropout of both sub-layers."""
    model, given = tiny.model(name), tiny.inputs(name)
    adapter = shaken(adaptr.create(model, "houlsby", m=8))
    with torch.no_grad(), adaptr.attach(model, adapter):
        found = model(**given).logits

    def after(path: str) -> Any:
        t = adapter.at(path)

        def hook(module: nn.Module, args: Any, h: torch.Tensor) -> torch.Tensor:
            return h + nn.functional.gelu(h @ t["D"].T + t["b_d"]) @ t["U"].T + t["b_u"]

        return hook

    for path in adapter.targets:
        model.get_submodule(path).register_forward_hook(after(path))
    with torch.no_grad():
        assert_close(found, model(**given).logits)


@pytest.mark.parametrize(("name", "source"), [("gpt2", "mlp"), ("bert", "intermediate"), ("llama", "mlp")])
def test_parallel_by_hand(name: str, source: str) -> None:
    """y = h + s (U relu(D x + b_d) + b_u), x what the feed-forward reads."""
    model, given = tiny.model(name), tiny.inputs(name)
    adapter = shaken(adaptr.create(model, "parallel", m=8, s=2.0))
    with torch.no_grad(), adaptr.attach(model, adapter):
        found = model(**given).logits
    for path in adapter.targets:
        t, layer = adapter.at(path), path[: path.index(".", path.index(".0" if ".0" in path else ".1") + 1)]
        seen: list[torch.Tensor] = []

        def before(module: nn.Module, args: Any, seen: list[torch.Tensor] = seen) -> None:
            seen.append(args[0])

        def after(module: nn.Module, args: Any, h: Any, t: Any = t, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            return h + 2.0 * (nn.functional.relu(seen.pop() @ t["D"].T + t["b_d"]) @ t["U"].T + t["b_u"])

        model.get_submodule(f"{layer}.{source}").register_forward_pre_hook(before)
        model.get_submodule(path).register_forward_hook(after)
    with torch.no_grad():
        assert_close(found, model(**given).logits)
