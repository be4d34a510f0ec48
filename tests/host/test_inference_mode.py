"""An adapter made, loaded or attached in inference mode is as fast, and trains, as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.testing import assert_close, shaken


def _made(model: Any, path: Path) -> adaptr.Adapter:
    with torch.inference_mode():
        return shaken(adaptr.create(model, "dora"), 1)


def _loaded(model: Any, path: Path) -> adaptr.Adapter:
    adaptr.save(shaken(adaptr.create(model, "dora"), 1), path / "a.safetensors")
    with torch.inference_mode():
        return adaptr.load(path / "a.safetensors").held()


HOW = pytest.mark.parametrize("how", [_made, _loaded])


def gains(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry each time that a layer's norms are computed."""
    found: list[int] = []
    dora: Any = type(adaptr.plugins.method("dora"))
    real = dora.gain
    monkeypatch.setattr(dora, "gain", lambda *given: found.append(1) or real(*given))
    return found


@HOW
@pytest.mark.parametrize("inside", [True, False])
def test_norms_are_computed_once(
    how: Callable[..., adaptr.Adapter], inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model("llama")
    adapter, given = how(model, tmp_path), tiny.inputs("llama", 1)
    with torch.inference_mode(inside):
        adaptr.attach(model, adapter)
    with torch.inference_mode():
        wanted = model(**given).logits
        counted = gains(model, monkeypatch)
        assert_close(model(**given).logits, wanted)
    assert not counted


@HOW
def test_it_can_be_trained_on(how: Callable[..., adaptr.Adapter], tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapter = how(model, tmp_path)
    with torch.inference_mode():
        session = adaptr.train(model, adapter)
    with session:
        model(**tiny.inputs("llama", 1)).logits.sum().backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "vera"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_token_is_what_it_is_among_many(method: str, bias: bool, dtype: torch.dtype) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias)).to(dtype)
    adapter = shaken(adaptr.create(layer, method, targets="0"), 1)
    adapter = adapter.replace(tensors={key: tensor.to(dtype) for key, tensor in adapter.tensors.items()})
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    with adaptr.attach(layer, adapter), torch.inference_mode():
        many = layer(x)
        for shape in ((1, 1, 24), (1, 24), (24,)):
            one = layer(x[0, 3].reshape(shape))
            assert one.shape == (*shape[:-1], 40)
            assert_close(one.flatten(), many[0, 3], 2e-2 if dtype is torch.bfloat16 else 1e-6)


def test_what_is_kept_from_inference_mode_does_not_enter_a_graph() -> None:
    model = tiny.model("llama").requires_grad_(False)
    given = torch.randn(1, 4, tiny.WIDTH, requires_grad=True)
    with adaptr.attach(model, shaken(adaptr.create(model, "dora"))):
        with torch.inference_mode():
            model(inputs_embeds=given)
        model(inputs_embeds=given).logits.sum().backward()
    assert given.grad is not None
