"""Single layers of every kind and geometry: attached is merged, unmerging gives the base back, and gradients agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import adaptr
import tiny
from adaptr import plugins
from adaptr.testing import assert_close, merged, round_trip, shaken

X = (3, 12, 17)
LAYERS = {
    "linear": (nn.Linear(12, 20), (3, 5, 12)),
    "linear without bias": (nn.Linear(20, 12, bias=False), (2, 20)),
    "conv1d of gpt2": (Conv1D(20, 12), (3, 5, 12)),
    "embedding": (nn.Embedding(30, 12), None),
    "conv1d": (nn.Conv1d(12, 20, 3, stride=2, padding=1), X),
    "conv1d dilated": (nn.Conv1d(12, 20, 3, dilation=3, bias=False), X),
    "conv1d circular": (nn.Conv1d(12, 20, 3, padding=2, padding_mode="circular"), X),
    "conv1d grouped": (nn.Conv1d(12, 20, 3, groups=4), X),
    "conv1d depthwise, as wide as the rank": (nn.Conv1d(4, 4, 3, groups=4), (2, 4, 9)),
    "conv1d without batch": (nn.Conv1d(12, 20, 3), (12, 17)),
    "conv2d": (nn.Conv2d(6, 10, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 6, 8, 9)),
    "conv2d reflected": (nn.Conv2d(6, 10, 3, padding=1, padding_mode="reflect"), (2, 6, 8, 9)),
    "conv2d grouped": (nn.Conv2d(6, 10, 3, groups=2), (2, 6, 8, 9)),
    "conv2d pointwise": (nn.Conv2d(6, 10, 1), (2, 6, 4, 4)),
    "conv3d": (nn.Conv3d(3, 5, 2), (2, 3, 4, 5, 6)),
    "layer norm": (nn.LayerNorm(12), (3, 5, 12)),
}
CONFIGS = {
    "lora": [{"r": 4}, {"r": 4, "rslora": True, "bias": True}, {"r": 3, "tucker": True}],
    "dora": [{"r": 4}],
    "loha": [{"r": 2}, {"r": 2, "tucker": True}],
    "lokr": [{"r": 1, "decompose_both": True}, {"r": 1, "tucker": True}, {"r": 30}],
    "adalora": [{"r": 4}],
    "vera": [{"r": 5}],
    "oft": [{"b": 4}, {"b": 4, "terms": 6}, {"b": 4, "share": True}],
    "shira": [{"r": 2}, {"n": 7, "alpha": 2.0}],
    "full": [{}, {"bias": True}],
    "ia3": [{"side": "out"}, {"side": "in"}],
    "bitfit": [{}],
}


def kind_of(layer: nn.Module) -> str:
    from adaptr.targets import describe

    found = describe("layer", layer)
    assert found is not None
    return found.kind


CASES = [
    pytest.param(name, method, config, id=f"{method}-{name}-{'-'.join(map(str, config.values()))}")
    for name, (layer, _) in LAYERS.items()
    for method, configs in CONFIGS.items()
    for config in configs
    if kind_of(layer) in plugins.method(method).kinds
    and (method != "bitfit" or layer.bias is not None)
    and not (name == "embedding" and config.get("bias"))
]


def case(name: str) -> tuple[nn.Module, torch.Tensor]:
    layer, shape = LAYERS[name]
    model = nn.Module()
    model.add_module("layer", tiny.seeded(layer))
    model.forward = lambda x: model.layer(x)  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(5)
    # every row of a table once: a sparse delta touches few of them
    x = torch.randperm(30, generator=generator).view(5, 6) if shape is None else torch.randn(shape, generator=generator)
    return model, x


@pytest.mark.parametrize(("name", "method", "config"), CASES)
@pytest.mark.parametrize("weight", [1.0, -0.4])
def test_attached_is_merged(name: str, method: str, config: dict[str, object], weight: float) -> None:
    model, x = case(name)
    adapter = shaken(adaptr.create(model, method, "layer", **config), by=0.3)
    base = model.layer(x).detach()
    with adaptr.attach(model, adapter, weight), torch.no_grad():
        attached = model.layer(x)
    assert torch.equal(model.layer(x), base)
    assert (attached - base).abs().max() > 1e-3
    del model.forward  # a lambda can't be copied
    assert_close(merged(model, [(adapter, weight)]).layer(x), attached)


@pytest.mark.parametrize(("name", "method", "config"), CASES)
def test_unmerging_gives_the_base_back(name: str, method: str, config: dict[str, object]) -> None:
    model, _ = case(name)
    adapter = shaken(adaptr.create(model, method, "layer", **config), by=0.3)
    W, b, back, bias = round_trip(model, adapter, adapter.targets["layer"])
    assert_close(back, W)
    if b is not None:
        assert_close(bias, b)


@pytest.mark.parametrize(("name", "method", "config"), CASES)
def test_gradients_are_those_of_the_merged_weight(name: str, method: str, config: dict[str, object]) -> None:
    """By finite differences on the attached layer, in fp64: the fused backward included."""
    model, x = case(name)
    model.double()
    adapter = shaken(adaptr.create(model, method, "layer", **config), by=0.3)
    wide = {k: t.double() if t.is_floating_point() else t for k, t in adapter.tensors.items()}
    adapter = adapter.replace(tensors=wide)
    if method == "dora":
        pytest.skip("the norm is taken out of the gradient on purpose")
    with adaptr.train(model, adapter) as session:
        parameters = list(session.parameters())
        x = x.double().requires_grad_() if x.is_floating_point() else x
        model.layer(x).square().sum().backward()
        generator = torch.Generator().manual_seed(3)
        for tensor in [*parameters, *([x] if x.is_floating_point() else [])]:
            step = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            with torch.no_grad():
                tensor.add_(1e-6 * step)
                up = model.layer(x).square().sum()
                tensor.sub_(2e-6 * step)
                down = model.layer(x).square().sum()
                tensor.add_(1e-6 * step)
            slope = float((up - down) / 2e-6)
            assert abs(float((tensor.grad * step).sum()) - slope) <= 1e-5 * max(abs(slope), 1)


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "vera", "parallel"])
def test_dropout_acts_while_training_only(method: str) -> None:
    model = tiny.model("gpt2")
    spec = "transformer.h.0.mlp.dropout" if method == "parallel" else "transformer.h.0.mlp.c_fc"
    config = {"m": 8} if method == "parallel" else {"r": 4}
    adapter = shaken(adaptr.create(model, method, spec, dropout=0.5, **config))
    ids = tiny.inputs("gpt2")
    with adaptr.attach(model, adapter), torch.no_grad():
        once = model(**ids).logits
        assert torch.equal(model(**ids).logits, once)
    with torch.random.fork_rng(), adaptr.train(model, adapter) as session:
        torch.manual_seed(0)
        drawn = [model(**ids).logits.detach() for _ in range(2)]
        assert not torch.equal(*drawn)
        for state in session.states.values():
            state.eval()
        assert_close(model(**ids).logits, once)


def test_embeddings_that_scale_their_output() -> None:
    model = tiny.model("gemma2")
    adapter = shaken(adaptr.create(model, "lora", "embed", r=4), by=0.3)
    table = model.get_input_embeddings()
    ids = torch.arange(3, 9)[None]
    with adaptr.attach(model, adapter), torch.no_grad():
        attached = table(ids)
    assert_close(merged(model, [(adapter, 1.0)]).get_input_embeddings()(ids), attached)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_expert_stacks(name: str, method: str) -> None:
    model = tiny.model(name)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "experts" in parameter_name:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    config = {"r": 4} if method == "lora" else {}
    adapter = shaken(adaptr.create(model, method, ["mlp.gate", "mlp.down"], **config))
    assert {t.kind for t in adapter.targets.values()} == {"experts" if name == "mixtral" else "experts_t"}
    ids = tiny.inputs(name)
    with torch.no_grad():
        base = model(**ids).logits
        with adaptr.attach(model, adapter):
            attached = model(**ids).logits
        assert torch.equal(model(**ids).logits, base)
        assert not torch.equal(attached, base)
        assert_close(merged(model, [(adapter, 1.0)])(**ids).logits, attached)
    with adaptr.train(model, adapter) as session:
        model(**ids).logits.square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in session.parameters())


class Clipped(nn.Linear):
    """A linear layer that does more than a product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).clamp(-0.1, 0.1)


def test_a_layer_that_does_more_than_a_product_is_not_bypassed() -> None:
    model = nn.Module()
    model.add_module("layer", tiny.seeded(Clipped(12, 20)))
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    adapter = adaptr.create(model, "lora", "layer", r=2)  # fresh: the identity
    base = model.layer(x).detach()
    with adaptr.attach(model, adapter), torch.no_grad():
        assert torch.equal(model.layer(x), base)
    with adaptr.train(model, adapter):
        assert torch.equal(model.layer(x).detach(), base)


@pytest.mark.parametrize("part", ["weight", "A", "B", "m"])
@pytest.mark.parametrize("how", ["in place", "data", "replaced"])
def test_what_dora_keeps_follows_every_tensor_it_comes_from(part: str, how: str) -> None:
    """Outside training the gain is kept; whatever it was computed from may be changed under it."""
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(6, 5)), torch.randn(3, 6)
    adapter = adaptr.create(model, "dora", ["0"], r=2)
    adaptr.attach(model, adapter.replace(tensors={k: torch.randn(t.shape) for k, t in adapter.tensors.items()}))
    layer = model[0]
    holder = layer if part == "weight" else next(iter(layer.adapters.values()))
    with torch.no_grad():
        model(x)
        old = holder._parameters[part]
        if how == "in place":
            old.mul_(1.5)
        elif how == "data":
            old.data = old.data * 1.5
        else:
            holder._parameters[part] = torch.nn.Parameter(old * 1.5, requires_grad=False)
        found = model(x)
    with torch.enable_grad():  # the way that keeps nothing
        assert torch.allclose(found, model(x.clone().requires_grad_()).detach(), atol=1e-6)
