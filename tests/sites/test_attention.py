"""The attention site: what a method gets there, held against attention written out on the bare model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import adaptr
import tiny
from adaptr import Method, Param
from adaptr.errors import Unsupported
from adaptr.host.projections import keys_values
from adaptr.testing import logits, shaken
from brought import installed


@dataclass(frozen=True)
class Config:
    width: int = tiny.WIDTH
    heads: int = tiny.HEADS


class Rows(Method[Config]):
    """A gated softmax over rows of its own."""

    name = "rows"
    family = "attention"
    formulas = ("attention",)
    kinds: ClassVar = frozenset({"attention"})
    targets: ClassVar = ("attention",)
    params: ClassVar = {"A": Param("3 width", init="normal:1"), "g": Param("heads 1 1")}
    unmergeable = "tokens"

    def attention(self, rest: Any, a: Any, p: Any, cfg: Config, weight: float) -> Any:
        y, weights = rest(a)
        more = a.over(*a.projected(p["A"]))
        return y + (weight * p["g"].tanh() * more.transpose(1, 2)).transpose(1, 2), weights


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(monkeypatch, Rows):
        yield


def written_out(model: Any, name: str, adapter: Any) -> list[Any]:
    """The same by hooks: the queries and the output of each attention are caught before and after its projections."""
    hooks: list[Any] = []
    for path in adapter.targets:
        module, A, g = model.get_submodule(path), adapter.tensors[f"{path}:A"], adapter.tensors[f"{path}:g"]
        caught: dict[str, Tensor] = {}
        if name == "gpt2":
            split = lambda t: t.split(tiny.WIDTH, -1)
            K, V = split(module.c_attn(A))[1:]
            hooks.append(module.c_attn.register_forward_hook(lambda m, a, y, c=caught, s=split: c.update(q=s(y)[0])))
            end, scale = module.c_proj, 8**-0.5
        else:
            query, key, value = (module.q, module.k, module.v) if name == "t5" else (
                module.query, module.key, module.value
            )  # fmt: skip
            K, V = key(A), value(A)
            hooks.append(query.register_forward_hook(lambda m, a, y, c=caught: c.update(q=y)))
            end = module.o if name == "t5" else model.get_submodule(path.removesuffix("self") + "output").dense
            scale = 1.0 if name == "t5" else 8**-0.5

        def before(m: Any, args: Any, c: Any = caught, K: Any = K, V: Any = V, g: Any = g, scale: Any = scale) -> Any:
            q = c["q"].unflatten(-1, (tiny.HEADS, 8)).transpose(1, 2)
            k, v = (t.unflatten(-1, (tiny.HEADS, 8)).transpose(0, 1) for t in (K, V))
            more = (q @ k.mT * scale).softmax(-1) @ v * g.tanh()
            return (args[0] + more.transpose(1, 2).flatten(2), *args[1:])

        hooks.append(end.register_forward_pre_hook(before))
    return hooks


def last(model: Any, given: Any) -> Tensor:
    """The last hidden states."""
    out = model(**given, output_hidden_states=True)
    found: Tensor = (out.get("hidden_states") or out.decoder_hidden_states)[-1]
    return found


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_it_is_attention_written_out(name: str, implementation: str) -> None:
    model, given = tiny.model(name), tiny.inputs(name)
    model.set_attn_implementation(implementation)
    adapter = shaken(adaptr.create(model, "rows"), by=0.5)
    with torch.no_grad():
        bare = last(model, given)
        hooks = written_out(model, name, adapter)
        wanted = last(model, given)
        for hook in hooks:
            hook.remove()
        with adaptr.attach(model, adapter):
            torch.testing.assert_close(last(model, given), wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(last(model, given), bare)
    assert not torch.allclose(wanted, bare, atol=1e-3)


def test_grouped_heads_and_a_cache() -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    adapter = shaken(adaptr.create(model, "rows"), by=0.5)
    with torch.no_grad(), adaptr.attach(model, adapter):
        whole = model(ids).logits
        first = model(ids[:, :4], use_cache=True)
        rest = model(ids[:, 4:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(rest, whole[:, 4:], rtol=1e-4, atol=1e-4)


def test_its_rows_go_through_the_adapters_on_the_projections() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    rows = shaken(adaptr.create(model, "rows"), by=0.5)
    lora = shaken(adaptr.create(model, "lora", ["attn.k", "attn.v"], r=2))
    with torch.no_grad():
        with adaptr.attach(model, lora), adaptr.attach(model, rows):
            both = logits(model(**given))
        with adaptr.attach(model, lora, merged=True), adaptr.attach(model, rows):
            torch.testing.assert_close(logits(model(**given)), both, rtol=1e-4, atol=1e-4)


def test_at_no_strength_it_is_not_there_and_at_half_it_is_half() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    adapter = shaken(adaptr.create(model, "rows", ["re:.*layers.1.self_attn"]), by=0.5)
    with torch.no_grad():
        bare = model.model.layers[1].self_attn
        found: dict[float, Tensor] = {}
        hook = bare.o_proj.register_forward_pre_hook(lambda m, a: found.update({weight: a[0]}))
        for weight in (0.0, 0.5, 1.0):
            with adaptr.attach(model, adapter, weight):
                model(**given)
        hook.remove()
    torch.testing.assert_close(found[0.5] * 2, found[0.0] + found[1.0], rtol=1e-5, atol=1e-5)


def test_norms_of_keys_are_the_modules_own() -> None:
    module = torch.nn.Module()
    module.k_proj, module.v_proj = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    module.k_norm = torch.nn.LayerNorm(4)
    rows = torch.randn(3, 8)
    k, v = keys_values(module, rows, 2, 4)
    assert torch.equal(k, module.k_norm(module.k_proj(rows).view(3, 2, 4).transpose(0, 1)))
    assert torch.equal(v, module.v_proj(rows).view(3, 2, 4).transpose(0, 1))


def test_an_attention_whose_projections_are_not_known_apart_is_refused() -> None:
    with pytest.raises(Unsupported, match="has no layers for keys and values that are known apart"):
        keys_values(torch.nn.Linear(4, 4), torch.randn(3, 8), 2, 4)
