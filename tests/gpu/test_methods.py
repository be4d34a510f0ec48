"""What the laws say of live models, on the accelerator, of every method."""

from __future__ import annotations

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.errors import TargetNotFound
from adaptr.testing import Laws
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.merging import mergeable
from adaptr.testing.samples import logits, trained_keys

# what CUDA's matrix products differ by in fp32, with TensorFloat off
NEAR = 1e-4


def laws(name: str) -> Laws:
    """The laws of a method, on a model that has something for it to change."""

    class Of(Laws):
        method = name
        architecture = "llama"

        def model(self) -> torch.nn.Module:
            model: torch.nn.Module = tiny.model(self.architecture)
            return model

    try:
        Of().fresh(Of().model())
    except TargetNotFound:
        Of.architecture = "gpt2"  # every layer has a bias
    return Of()


def output(model: torch.nn.Module, device: str) -> torch.Tensor:
    with torch.no_grad():
        return logits(model(input_ids=torch.arange(14, device=device).reshape(2, 7) + 3))


@pytest.fixture(params=plugins.names())
def made(request: pytest.FixtureRequest, device: str) -> tuple[torch.nn.Module, Adapter]:
    """A model on the device, and an adapter for it whose tensors are where a file's are: in the processor's memory."""
    of = laws(request.param)
    return of.model().to(device), of.adapter(of.model())


def test_the_device_gives_what_the_processor_gives(made: tuple[torch.nn.Module, Adapter], device: str) -> None:
    model, adapter = made
    with adaptr.attach(model, adapter):
        found = output(model, device).cpu()
    with adaptr.attach(model.cpu(), adapter):
        wanted = output(model, "cpu")
    torch.testing.assert_close(found, wanted, rtol=NEAR, atol=NEAR)


def test_detached_is_bit_identical(made: tuple[torch.nn.Module, Adapter], device: str) -> None:
    model, adapter = made
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adaptr.attach(model, adapter).detach()
    assert all(bits_equal(value, before[key]) for key, value in model.state_dict().items())


def test_merged_in_place_is_the_attached_model_and_comes_off(
    made: tuple[torch.nn.Module, Adapter], device: str
) -> None:
    model, adapter = made
    if not mergeable(adapter):
        pytest.skip(f"`{adapter.method}` can't be merged")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with adaptr.attach(model, adapter):
        wanted = output(model, device)
    with adaptr.attach(model, adapter, merged=True):
        torch.testing.assert_close(output(model, device), wanted, rtol=NEAR, atol=NEAR)
    assert all(bits_equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", plugins.names())
def test_a_step_of_training_reaches_every_tensor(name: str, dtype: torch.dtype, device: str) -> None:
    of = laws(name)
    model = of.model().to(dtype)
    adapter = of.fresh(model)
    if not trained_keys(adapter):
        pytest.skip(f"`{name}` learns nothing")
    ids = torch.arange(14, device=device).reshape(2, 7) + 3
    with adaptr.train(model.to(device), adapter) as session:

        def run() -> tuple[torch.Tensor, object]:
            found = model(input_ids=ids, labels=ids)
            return found.loss, found

        loss = session.objective(run)
        loss.backward()
        named = session.named()
        assert all(p.device.type == torch.device(device).type for p in named.values())
        assert bool(torch.isfinite(loss))
        assert any(p.grad is not None and bool(p.grad.any()) for p in named.values())
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in named.values())
        session.adapted()


def test_a_fresh_adapter_is_the_identity(device: str) -> None:
    for name in plugins.names():
        of = laws(name)
        model = of.model()
        fresh = of.fresh(model)
        model = model.to(device)
        before = output(model, device)
        with adaptr.attach(model, fresh):
            if plugins.method(name).can.identity:
                assert_close(output(model, device), before)
