"""Inserted modules against naive forms of their papers' formulas, by hooks on the bare model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, relu

import adaptr
import tiny
from adaptr.errors import AdaptrError
from adaptr.testing import assert_close, logits, shaken

#: By architecture: a place behind a feed-forward, the module whose input is summed with it, and the norm of sums.
SUMS = {
    "llama": ("model.layers.0.mlp", "model.layers.0.post_attention_layernorm", ""),
    "gpt2": ("transformer.h.0.mlp.dropout", "transformer.h.0.ln_2", ""),
    "bert": ("bert.encoder.layer.0.output.dropout", "bert.encoder.layer.0.intermediate", "output.LayerNorm"),
    "distilbert": ("distilbert.transformer.layer.0.ffn", "distilbert.transformer.layer.0.ffn", "output_layer_norm"),
    "t5": ("encoder.block.0.layer.1.dropout", "encoder.block.0.layer.1", ""),
    "vit": ("vit.layers.0.mlp", "vit.layers.0.layernorm_after", ""),
    "whisper": ("model.encoder.layers.0.fc2", "model.encoder.layers.0.final_layer_norm", ""),
    "bart": ("model.encoder.layers.0.fc2", "model.encoder.layers.0.fc1", "final_layer_norm"),
}
Formula = Callable[[Tensor, Tensor], Tensor]


def inputs(name: str) -> dict[str, Any]:
    if name == "whisper":
        features = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(1))
        return {"input_features": features, "decoder_input_ids": torch.arange(2, 6)[None]}
    given: dict[str, Any] = tiny.inputs(name)
    return given


def hooked(name: str, path: str, reads: str, formula: Formula) -> Tensor:
    """The output of the bare model with formula(h, r) in the place of h, r the input of the module `reads`."""
    model, kept = tiny.model(name), []

    def read(module: Any, args: Any, kwargs: Any) -> None:
        kept.append(args[0] if args else next(iter(kwargs.values())))

    def put(module: Any, args: Any, output: Any) -> Any:
        y = formula(output[0] if isinstance(output, tuple) else output, kept[-1])
        return (y, *output[1:]) if isinstance(output, tuple) else y

    model.get_submodule(reads).register_forward_pre_hook(read, with_kwargs=True)
    model.get_submodule(path).register_forward_hook(put)
    with torch.no_grad():
        return logits(model(**inputs(name)))


def adapted(name: str, adapter: adaptr.Adapter) -> Tensor:
    model = tiny.model(name)
    with adaptr.attach(model, adapter), torch.no_grad():
        return logits(model(**inputs(name)))


def made(name: str, method: str, path: str, **config: Any) -> tuple[adaptr.Adapter, dict[str, Tensor]]:
    adapter = shaken(adaptr.create(tiny.model(name), method, [path], **config), 1, 0.3)
    return adapter, dict(adapter.at(path))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_pfeiffer_reads_the_normed_sum_where_there_is_one(name: str, residual: bool) -> None:
    path, reads, norm = SUMS[name]
    layer = path.rpartition(".")[0] if norm == "output_layer_norm" else path.rpartition(".output.")[0] or path[:-4]
    adapter, p = made(name, "pfeiffer", path, m=4, **({"residual": True} if residual else {}))

    def formula(h: Tensor, r: Tensor) -> Tensor:
        z = h + r if norm or residual else h
        z = tiny.model(name).get_submodule(f"{layer}.{norm}")(z) if norm else z
        return h + relu(z @ p["D"].T + p["b_d"]) @ p["U"].T + p["b_u"]

    assert_close(adapted(name, adapter), hooked(name, path, reads, formula))


@pytest.mark.parametrize("called", ["bert.encoder", "bert.encoder.layer.0.output.nothing"])
def test_what_an_adapter_calls_is_a_layer_that_is_there(called: str) -> None:
    model = tiny.model("bert")
    adapter = adaptr.create(model, "pfeiffer", [SUMS["bert"][0]], m=4, calls=called)
    with pytest.raises(AdaptrError, match=rf"`{called}`"):
        adaptr.attach(model, adapter)
    assert "adapters" not in dict(model.named_modules())


def test_pfeiffer_adapters_on_one_another_read_what_the_one_before_made() -> None:
    path, reads, _ = SUMS["bert"]
    norm = tiny.model("bert").get_submodule("bert.encoder.layer.0.output.LayerNorm")
    (one, p), (two, q) = made("bert", "pfeiffer", path, m=4), made("bert", "pfeiffer", path, m=3)
    model = tiny.model("bert")

    def formula(h: Tensor, r: Tensor) -> Tensor:
        for t in (p, q):
            h = h + relu(norm(h + r) @ t["D"].T + t["b_d"]) @ t["U"].T + t["b_u"]
        return h

    with adaptr.attach(model, one), adaptr.attach(model, two), torch.no_grad():
        assert_close(logits(model(**inputs("bert"))), hooked("bert", path, reads, formula))


def test_a_residual_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(AdaptrError, match=r"is not known; say the module whose input it is \(`reads`\)"):
        adaptr.create(tiny.model("llama"), "pfeiffer", ["attn_out"], residual=True)


BLOCKS = {
    "llama": "model.layers.0",
    "gpt2": "transformer.h.0",
    "bert": "bert.encoder.layer.0",
    "distilbert": "distilbert.transformer.layer.0",
    "t5": "encoder.block.0",
    "vit": "vit.layers.0",
    "whisper": "model.encoder.layers.0",
}


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("name", BLOCKS)
def test_lin_norms_what_a_block_puts_out(name: str, norm: str) -> None:
    path = BLOCKS[name]
    adapter, p = made(name, "lin", path, m=4, norm=norm)

    def formula(h: Tensor, r: Tensor) -> Tensor:
        z = h - h.mean(-1, keepdim=True) if norm == "layer" else h
        z = z / (z.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * p["g"] + p.get("c", 0)
        return h + relu(z @ p["D"].T + p["b_d"]) @ p["U"].T + p["b_u"]

    assert_close(adapted(name, adapter), hooked(name, path, path, formula))


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
@pytest.mark.parametrize("method", ["phm", "compacter", "compacter-pp"])
def test_hypercomplex_projections_are_sums_of_kronecker_products(method: str, name: str) -> None:
    path = SUMS[name][0]
    adapter, p = made(name, method, path, m=8, n=4, activation="gelu")

    def projected(x: Tensor, side: str) -> Tensor:
        A = p["A"] if "A" in p else p[f"A_{side}"]
        B = p[f"s_{side}"] @ p[f"t_{side}"] if "A" in p else p[f"B_{side}"]
        H = torch.stack([torch.kron(a, b) for a, b in zip(A, B, strict=True)]).sum(0)
        return x @ H + p[f"b_{side}"]

    assert_close(
        adapted(name, adapter), hooked(name, path, path, lambda h, r: h + projected(gelu(projected(h, "d")), "u"))
    )


def test_compacters_rules_are_one_tensor_that_learns_at_all_places() -> None:
    model = tiny.model("bert").train()
    adapter = adaptr.create(model, "compacter", m=8, n=4)
    assert next(iter(adapter.tensors)) == ":A"
    with adaptr.train(model, adapter) as session:
        logits(model(**inputs("bert"))).square().mean().backward()
        assert len({id(state["A"]) for state in session.states.values()}) == 1
        assert session.named()[":A"].grad.abs().max() > 0


@pytest.mark.parametrize(("field", "value"), [("n", 5), ("m", 6)])
def test_sizes_that_n_does_not_divide_are_refused(field: str, value: int) -> None:
    with pytest.raises(AdaptrError, match="a multiple of `n`"):
        adaptr.create(tiny.model("bert"), "compacter", **{"m": 8, "n": 4, field: value})
