"""Whole parameters that an adapter brings: they follow its strength, and the base's own return."""

from __future__ import annotations

import pytest
import torch

import adaptr
import tiny
from adaptr import errors, host
from adaptr.testing import assert_close, logits, shaken
from attached import made, run


def _with_head(model: torch.nn.Module, adapter: adaptr.Adapter, value: float) -> adaptr.Adapter:
    head = torch.full_like(model.lm_head.weight, value)
    return adapter.replace(tensors={**adapter.tensors, "lm_head.weight:=": head})


@pytest.mark.parametrize("method", ["lora", "mam"])
def test_replaced_parameters_follow_the_strength_and_return(method: str) -> None:
    model = tiny.model("llama")
    base, parameter = run(model, "llama"), model.lm_head.weight
    adapter = _with_head(model, made(model, method, **({"m": 8} if method == "mam" else {})), 0.5)
    with adaptr.attach(model, adapter) as handle:
        assert run(model, "llama").std(-1).max() < 1e-5
        if method == "lora":
            handle.weight = 0.0
            assert_close(run(model, "llama"), base, to=1e-6)
    assert model.lm_head.weight is parameter
    assert torch.equal(run(model, "llama"), base)


@pytest.mark.parametrize("verb", ["attach", "train"])
@pytest.mark.parametrize("to", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_base_that_was_kept_aside_returns_in_the_models_dtype(name: str, to: torch.dtype, verb: str) -> None:
    model = tiny.model(name)
    ties = {id(p) for p in model.parameters()}
    values = {key: value.clone() for key, value in model.state_dict().items()}
    lora = made(model, "lora")
    norm = "model.norm.weight" if name == "llama" else "transformer.ln_f.weight"
    whole = {f"{path}:=": model.get_parameter(path).detach() * 1.1 for path in (norm, "lm_head.weight")}
    handle = getattr(adaptr, verb)(model, lora.replace(tensors={**lora.tensors, **whole}))
    model.to(to)
    assert run(model, name).dtype is to
    if verb == "attach":
        handle.weight = 0.5
        assert run(model, name).dtype is to
    handle.detach()
    assert {p.dtype for p in model.parameters()} == {to}
    assert {id(p) for p in model.parameters()} == ties
    assert all(torch.equal(value, values[key].to(to)) for key, value in model.state_dict().items())
    assert torch.equal(run(model, name), run(tiny.model(name).to(to), name))


def test_a_gradient_of_what_was_kept_aside_returns_with_it() -> None:
    model = tiny.model("llama")
    run_with_gradients = logits(model(**tiny.inputs("llama"))).sum()
    run_with_gradients.backward()
    lora = made(model, "lora")
    with adaptr.attach(model, lora.replace(tensors={**lora.tensors, "model.norm.weight:=": torch.ones(32)})):
        model.bfloat16()
    assert model.model.norm.weight.grad.dtype is torch.bfloat16


def test_two_adapters_may_not_replace_the_same_parameter() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, _with_head(model, made(model, "lora", 1), 0.5)):
        with pytest.raises(errors.AlreadyAttached, match=r"lm_head\.weight"):
            adaptr.attach(model, _with_head(model, made(model, "lora", 2), 0.1))
        assert list(host.attached(model)) == ["lora1"]


def test_a_layer_sees_its_weight_replaced_under_it() -> None:
    model = tiny.model("llama")
    lora = shaken(adaptr.create(model, "lora", "lm_head"))
    with adaptr.train(model, lora):
        run(model, "llama")
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight), requires_grad=False)
        out = logits(model(**tiny.inputs("llama")))  # the fused path
        assert_close(out.detach(), run(model, "llama"))
        assert out.abs().max() < 20
        model.load_state_dict({"lm_head.weight": torch.full_like(model.lm_head.weight, 9.0)}, strict=False, assign=True)
        assert not torch.allclose(logits(model(**tiny.inputs("llama"))), out)
