"""Packed layers of libraries that are not installed here, by stand-ins that hold a weight as theirs do.

What the libraries themselves do is tried by `make oracles ONLY=hosts`.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
from adaptr.errors import Unsupported
from adaptr.host import attached
from adaptr.testing import assert_close, logits, shaken, tiny_llama

IDS = torch.arange(14).reshape(2, 7) + 3


class Codes(nn.Module):
    """As gptqmodel's: codes of the transposed weight, a bias that is a buffer, a mode that its first forward sets."""

    def __init__(self, linear: nn.Linear, learns: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.SUPPORTS_TRAINING, self.linear_mode = learns, None
        self.register_buffer("qweight", linear.weight.detach().t().contiguous().view(torch.int32))
        self.register_buffer("bias", torch.full([linear.out_features], 0.1))

    def dequantize_weight(self) -> Tensor:
        return self.qweight.view(torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        if self.linear_mode is None:
            self.linear_mode = "train" if x.requires_grad else "inference"
        y = x @ self.dequantize_weight() + self.bias
        return y.detach() if self.linear_mode == "inference" else y


class Grouped(nn.Module):
    """As hqq's: codes that are a parameter, and a bias that is neither that nor a buffer."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.W_q = nn.Parameter(linear.weight.detach().contiguous().view(torch.int32), requires_grad=False)
        self.bias = torch.full([linear.out_features], 0.1)

    def dequantize(self) -> Tensor:
        return self.W_q.view(torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.dequantize().t() + self.bias


def wrapped(linear: nn.Linear, inputs: object = None) -> nn.Linear:
    """As compressed-tensors': a forward on the instance, which calls that of whatever class the layer has then."""
    linear.bias = nn.Parameter(torch.full([linear.out_features], 0.1))
    linear.quantization_scheme = types.SimpleNamespace(weights=object(), input_activations=inputs)

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.__class__.forward(self, x)

    linear.forward = types.MethodType(forward, linear)
    return linear


def dense(linear: nn.Linear) -> nn.Linear:
    linear.bias = nn.Parameter(torch.full([linear.out_features], 0.1))
    return linear


def model(pack: Callable[..., nn.Module]) -> Any:
    made = tiny_llama()
    for path, module in list(made.named_modules()):
        if isinstance(module, nn.Linear) and path != "lm_head":
            owner, _, name = path.rpartition(".")
            setattr(made.get_submodule(owner), name, pack(module))
    return made


def outputs(host: Any) -> Tensor:
    with torch.no_grad():
        return logits(host(IDS))


@pytest.mark.parametrize("pack", [Codes, Grouped, wrapped])
@pytest.mark.parametrize("method", ["lora", "dora", "oft", "ia3", "houlsby", "prefix"])
@pytest.mark.parametrize("used", [False, True])
def test_adapters_do_what_they_do_on_the_same_weights_unpacked(pack: Any, method: str, used: bool) -> None:
    host, plain = model(pack), model(dense)
    small = {"m": 8} if method == "houlsby" else {}
    wanted, adapter = (shaken(adaptr.create(one, method, **small), by=0.3) for one in (plain, host))
    assert list(adapter.targets.values()) == list(wanted.targets.values())
    bare = outputs(host) if used else None
    with adaptr.attach(host, adapter), adaptr.attach(plain, wanted):
        assert_close(outputs(host), outputs(plain), to=1e-5)
    assert bare is None or torch.equal(outputs(host), bare)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_rows_of_a_batch_have_adapters_on_codes(method: str) -> None:
    host, plain = model(Codes), model(dense)
    adapter = shaken(adaptr.create(plain, method), by=0.3)
    found = []
    for one in (host, plain):
        with adaptr.pool(one, slots=1) as pool:
            pool.add("a", adapter)
            with pool.rows(["a", None]):
                found.append(outputs(one))
    assert_close(*found, to=1e-5)


@pytest.mark.parametrize("pack", [Codes, Grouped, wrapped])
def test_gradients_flow_whatever_is_measured_meanwhile(pack: Any) -> None:
    host, plain = model(pack), model(dense)
    adapter = shaken(adaptr.create(plain, "lora"))
    found = []
    for one in (host, plain):
        with adaptr.train(one, adapter) as session:
            outputs(one)
            logits(one(IDS)).square().mean().backward()
            found.append({key: p.grad.clone() for key, p in session.named().items()})
    for key, gradient in found[1].items():
        assert_close(found[0][key], gradient, to=1e-4)


def test_a_kernel_that_learns_again_may_choose_anew() -> None:
    host = model(Codes)
    with adaptr.train(host, shaken(adaptr.create(host, "lora"))):
        logits(host(IDS))
    assert all(m.linear_mode is None for m in host.modules() if isinstance(m, Codes))


def test_what_has_run_in_inference_is_not_trained() -> None:
    host = model(Codes)
    adapter = adaptr.create(host, "lora")
    outputs(host)
    with pytest.raises(Unsupported, match=r"q_proj.* has run in inference"):
        adaptr.train(host, adapter)


@pytest.mark.parametrize("parts", [False, True])
def test_what_passes_no_gradient_is_not_trained(parts: bool) -> None:
    fixed = model(lambda linear: Codes(linear, learns=False))
    quantised = model(lambda linear: wrapped(linear, inputs=object()))
    for host, said in ((fixed, "inference alone"), (quantised, "dequantize=True")):
        made = adaptr.create(host, "mam", m=8, tokens=3) if parts else adaptr.create(host, "lora")
        with pytest.raises(Unsupported, match=said):
            adaptr.train(host, made)
        assert not attached(host)


def test_random_weights_in_the_place_of_codes_are_refused() -> None:
    """As transformers loads HQQ: layers that are plain, and prepared for codes that never came."""

    def unread(linear: nn.Linear) -> nn.Linear:
        linear.W_q, linear.quant_config = None, {}
        return linear

    host, adapter = model(unread), shaken(adaptr.create(tiny_llama(), "lora"))
    host.config.quantization_config = {"quant_method": "hqq"}
    for refused in (
        lambda: adaptr.create(host, "lora"),
        lambda: adaptr.attach(host, adapter),
        lambda: adaptr.attach(host, adapter, merged=True),
        lambda: adaptr.train(host, adapter),
        lambda: adaptr.stack(host, {"a": adapter}),
        lambda: adaptr.pool(host, slots=1).add("a", adapter),
    ):
        with pytest.raises(Unsupported, match="random"):
            refused()


def test_an_adapter_of_the_base_itself_is_attached_to_a_quantised_form_of_it() -> None:
    """Whose values are others, though near."""
    host, adapter = model(dense), shaken(adaptr.create(model(dense), "lora"))
    with torch.no_grad():
        for parameter in host.parameters():
            parameter.mul_(1.01)
    with pytest.raises(adaptr.AdaptrError, match="not those it was trained on"):
        adaptr.attach(host, adapter)
    host.config.quantization_config = {"quant_method": "compressed-tensors"}
    with adaptr.attach(host, adapter):
        assert adaptr.create(host, "lora").base.quantization == "compressed-tensors"


def test_codes_that_a_kernel_has_packed_anew_are_read_by_what_it_makes_of_them() -> None:
    """As ATen's: they are no longer what `dequantize_weight` takes them for."""

    class Anew(Codes):
        scales_and_zeros = torch.ones(1)

        def dequantize_weight(self) -> Tensor:
            raise NotImplementedError

        def _fused_op_forward(self, x: Tensor) -> Tensor:
            return x @ super().dequantize_weight()

        def forward(self, x: Tensor) -> Tensor:
            return self._fused_op_forward(x) + self.bias

    host, plain = model(Anew), model(dense)
    adapter = shaken(adaptr.create(plain, "dora"), by=0.3)
    with adaptr.attach(host, adapter), adaptr.attach(plain, adapter):
        assert_close(outputs(host), outputs(plain), to=1e-5)
