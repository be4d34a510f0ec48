"""A base in four bits: what only calls the layer works, and learns."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import adaptr
import tiny
from adaptr.testing import assert_close, logits, shaken

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    bnb = pytest.importorskip("bitsandbytes")


def full() -> Any:
    """Wide enough for whole blocks of 64."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**tiny.GROUPED, "hidden_size": 64, "intermediate_size": 128})).eval()


def four_bits(model: Any) -> Any:
    """Every linear layer of the decoder in nf4 with double quantisation, on the CPU."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name != "lm_head":
            out, into = module.weight.shape
            packed = bnb.nn.Linear4bit(into, out, bias=module.bias is not None, compute_dtype=torch.float32)
            packed.weight = bnb.nn.Params4bit(
                module.weight.detach().clone(), requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, packed)
    return model.to("cpu").eval()


@pytest.fixture
def model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return four_bits(full())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "houlsby", "parallel", "prefix"])
def test_it_attaches_learns_and_leaves_no_trace(model: Any, method: str) -> None:
    given = tiny.inputs("llama")
    with torch.no_grad():
        base = logits(model(**given))
    adapter = shaken(adaptr.create(model, method, **({"m": 8} if method in {"houlsby", "parallel"} else {})))
    assert all(min(t.shape) > 1 for t in adapter.targets.values() if t.kind == "linear"), "logical, not packed shapes"
    with torch.no_grad(), adaptr.attach(model, adapter):
        attached = logits(model(**given))
    assert not torch.equal(attached, base)
    with adaptr.train(model, adapter) as session:
        learning = logits(model(**given))
        learning.square().mean().backward()
        assert all(p.grad is not None for p in session.parameters())
    assert_close(learning, attached, to=2e-2)  # inference runs in bf16 there
    with torch.no_grad():
        assert torch.equal(logits(model(**given)), base)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_trained_on_four_bits_fits_the_full_base(model: Any) -> None:
    adapter = shaken(adaptr.create(model, "lora"))
    assert adapter.base.content == ""
    adaptr.attach(full(), adapter).detach()
    adaptr.attach(model, shaken(adaptr.create(full(), "lora"))).detach()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rows", [1, 2])
def test_a_measurement_during_training_costs_no_gradient(model: Any, rows: int) -> None:
    """In evaluation bitsandbytes packs weights on some processors, and passes no gradient through what is packed."""
    given = tiny.inputs("llama")
    adapter = shaken(adaptr.create(model, "lora"))

    def gradients(measured: bool) -> dict[str, torch.Tensor]:
        with adaptr.train(model.eval(), adapter) as session:
            if measured:
                with torch.no_grad():
                    model(input_ids=given["input_ids"][:rows])
            logits(model.train()(**given)).square().mean().backward()
            return {key: p.grad.clone() for key, p in session.named().items()}

    wanted, found = gradients(False), gradients(True)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    packs = {m.support_avx512bf16_for_cpu for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)}
    assert packs == {bnb.nn.Linear4bit(64, 64).support_avx512bf16_for_cpu}, "detached, the layers may pack again"
