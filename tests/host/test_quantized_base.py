"""A base in bitsandbytes' four or eight bits: adapters do and learn what they do on the same weights unpacked."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import adaptr
import tiny
from adaptr.adapter import Target
from adaptr.errors import Unsupported
from adaptr.host import view_of
from adaptr.testing import assert_close, logits, shaken

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    bnb = pytest.importorskip("bitsandbytes")


def full() -> Any:
    """Wide enough for whole blocks of 64."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**tiny.GROUPED, "hidden_size": 64, "intermediate_size": 128})).eval()


def linears(model: Any) -> dict[str, nn.Linear]:
    return {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear) and path != "lm_head"}


def four(module: nn.Linear, kind: str = "nf4", double: bool = True) -> nn.Module:
    out, into = module.weight.shape
    packed = bnb.nn.Linear4bit(into, out, bias=module.bias is not None, compute_dtype=torch.float32)
    weight = module.weight.detach().clone()
    packed.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type=kind, compress_statistics=double)
    packed.bias = module.bias
    return packed


def eight(module: nn.Linear) -> nn.Module:
    out, into = module.weight.shape
    packed = bnb.nn.Linear8bitLt(into, out, bias=module.bias is not None, has_fp16_weights=False)
    packed.weight = bnb.nn.Int8Params(module.weight.detach().clone(), requires_grad=False, has_fp16_weights=False)
    packed.bias = module.bias
    return packed


def four_bits(model: Any, pack: Any = four) -> Any:
    """Every linear layer of the decoder in nf4 with double quantisation, on the CPU."""
    for path, module in linears(model).items():
        owner, _, last = path.rpartition(".")
        setattr(model.get_submodule(owner), last, pack(module))
    return model.to("cpu").eval()


PACKS: dict[str, Any] = {
    "nf4": lambda m: four(m, "nf4", False),
    "nf4, double": lambda m: four(m, "nf4", True),
    "fp4": lambda m: four(m, "fp4", False),
    "int8": eight,
}


def read(module: Any) -> torch.Tensor:
    """A weight by bitsandbytes' own function, before any forward."""
    state = getattr(module.weight, "quant_state", None)
    if state is None:
        return bnb.functional.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
    return bnb.functional.dequantize_4bit(module.weight.data, state)


def packed_anew(model: Any) -> None:
    """As the first forward of evaluation does on processors with AVX512-BF16."""
    for module in linears(model).values():
        if not getattr(module.weight.quant_state, "packing_format_for_cpu", False):
            made = bnb.functional._convert_weight_packed_for_cpu(module.weight.data, module.weight.quant_state)
            module.weight.data, module.weight.quant_state = made


def hosts(pack: str) -> tuple[Any, Any]:
    """A packed model, and the dense one of the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, dense = four_bits(full(), PACKS[pack]), full()
    with torch.no_grad():
        for path, module in linears(model).items():
            dense.get_submodule(path).weight.copy_(read(module))
    return model, dense


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


METHODS = ("lora", "dora", "oft", "ia3", "vera", "houlsby", "prefix")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("method", METHODS)
def test_adapters_do_and_learn_what_they_do_on_the_same_weights_unpacked(pack: str, method: str) -> None:
    """Before and after a forward of evaluation, made here or there."""
    model, dense = hosts(pack)
    given = tiny.inputs("llama")
    adapter = shaken(adaptr.create(dense, method, **({"m": 8} if method == "houlsby" else {})), by=0.3)
    for _ in range(2):
        made = shaken(adaptr.create(model, method, **({"m": 8} if method == "houlsby" else {})), by=0.3)
        for one in (adapter, made):
            assert effect(model, one, given, dense, adapter) < 0.08
        wanted, found = gradients(dense, adapter, given), gradients(model, adapter, given)
        size = sum(g.square().sum() for g in wanted.values()) ** 0.5
        assert sum((found[key] - g).square().sum() for key, g in wanted.items()) ** 0.5 < 0.15 * size


def effect(model: Any, one: Any, given: Any, dense: Any, adapter: Any) -> float:
    """How far what an adapter does is from what another does on the dense model, relative to that."""
    with torch.no_grad():
        bare = logits(dense(**given))
        with adaptr.attach(dense, adapter):
            wanted = logits(dense(**given))
        with adaptr.attach(model, one):
            found = logits(model(**given))
    return float((found - wanted).norm() / (wanted - bare).norm())


def gradients(model: Any, adapter: Any, given: Any) -> dict[str, torch.Tensor]:
    with adaptr.train(model, adapter) as session:
        logits(model(**given)).square().mean().backward()
        return {key: p.grad.clone() for key, p in session.named().items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pack", ["nf4", "nf4, double", "fp4"])
@pytest.mark.parametrize("saved", [False, True])
def test_weights_that_were_packed_anew_are_read_as_they_were(pack: str, saved: bool) -> None:
    """`saved`: bitsandbytes has unpacked them itself meanwhile, which leaves their scales transposed."""
    model, dense = hosts(pack)
    packed_anew(model)
    if saved:
        for module in linears(model).values():
            module.weight.quant_state.original_nested = False
        model.state_dict()
    for path in linears(model):
        wanted = dense.get_submodule(path).weight
        found = view_of(model, Target(path, "linear", tuple(wanted.shape))).weight
        assert float((found - wanted).norm() / wanted.norm()) < 3e-3, path  # the scales are in bf16 there
    before = [module.weight.data_ptr() for module in linears(model).values()]
    adapter = shaken(adaptr.create(dense, "lora"))
    wanted, found = gradients(dense, adapter, tiny.inputs("llama")), gradients(model, adapter, tiny.inputs("llama"))
    for key, gradient in wanted.items():
        assert float((found[key] - gradient).norm() / gradient.norm()) < 0.05, key
    assert [module.weight.data_ptr() for module in linears(model).values()] == before, "detached, it is as it was"


@pytest.mark.filterwarnings("ignore")
def test_a_base_has_the_structure_that_it_has_unpacked() -> None:
    model, dense = hosts("nf4, double")
    wanted = adaptr.create(dense, "lora").base.structure
    assert adaptr.create(model, "lora").base.structure == wanted
    packed_anew(model)
    assert adaptr.create(model, "lora").base.structure == wanted


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pack", PACKS)
def test_nothing_is_merged_into_packed_weights(pack: str) -> None:
    model, dense = hosts(pack)
    with pytest.raises(Unsupported, match="packed"):
        adaptr.attach(model, shaken(adaptr.create(dense, "lora")), merged=True)
