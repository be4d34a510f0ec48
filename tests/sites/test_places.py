"""The sites of activations, each by a small method of its own and held against plain hooks on the bare model."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import adaptr
import tiny
from adaptr import Method, Param, plugins, sites
from adaptr.contract import Mount
from adaptr.errors import NotMergeable
from adaptr.testing import logits, shaken
from brought import installed

SEEN: list[Tensor] = []


class Somewhere(Method):
    """A vector at the site that the class says."""

    family = "somewhere"
    unmergeable = "non-linear"
    formulas = ()
    params: ClassVar = {"v": Param("d", init="normal:1")}
    kinds: ClassVar = frozenset({"module"})
    targets: ClassVar = ("ffn_out",)
    site = "input"

    def mounts(self, model: Any, adapter: Any) -> list[Mount]:
        return [Mount(path, self.site) for path in adapter.targets]

    def input(self, x: Any, p: Any, cfg: Any) -> Any:
        return x * p["v"].mean()

    def output(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        return h + p["v"]

    def tap(self, h: Any, p: Any, cfg: Any) -> None:
        SEEN.append(h.detach() * p["v"])

    def block(self, rest: Any, module: Any, p: Any, cfg: Any, weight: float, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        return rest(*args, **kwargs) + weight * module.post_attention_layernorm(x) * p["v"]


class In(Somewhere):
    name = "in"


class Before(Somewhere):
    name, site = "before", "head"


class Words(Somewhere):
    name, site = "words", "embed"


class Ear(Somewhere):
    name, site, identity = "ear", "tap", True


class Whole(Somewhere):
    name, site = "whole", "block"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(monkeypatch, In, Before, Words, Ear, Whole):
        yield
    SEEN.clear()


def where(model: Any, name: str) -> list[str]:
    if name in ("before", "words"):
        return sites.site(plugins.method(name).site).find(model, "")  # type: ignore[attr-defined]
    return ["re:.*layers.\\d+" if name == "whole" else "re:.*mlp"]


def by_hooks(model: nn.Module, adapter: Any, weight: float) -> list[Any]:
    """The same by hooks."""
    hooks = []
    for path in adapter.targets:
        module, v = model.get_submodule(path), adapter.tensors[f"{path}:v"]
        if adapter.method in ("in", "before"):
            factor = 1 + weight * (v.mean() - 1)
            hooks.append(module.register_forward_pre_hook(lambda m, a, f=factor: (a[0] * f, *a[1:])))
        elif adapter.method == "words":
            hooks.append(module.register_forward_hook(lambda m, a, y, v=v: y + weight * v))
        elif adapter.method == "whole":
            norm = module.post_attention_layernorm
            hooks.append(
                module.register_forward_hook(lambda m, a, y, v=v, n=norm: y + weight * n(a[0]) * v)  # type: ignore[misc]
            )
    return hooks


@pytest.mark.parametrize("weight", [1.0, 0.5])
@pytest.mark.parametrize("name", ["in", "before", "words", "whole"])
def test_it_is_what_hooks_do(name: str, weight: float) -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    adapter = shaken(adaptr.create(model, name, where(model, name)))
    with torch.no_grad():
        bare = logits(model(**given))
        hooks = by_hooks(model, adapter, weight)
        wanted = logits(model(**given))
        for hook in hooks:
            hook.remove()
        with adaptr.attach(model, adapter, weight):
            torch.testing.assert_close(logits(model(**given)), wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(logits(model(**given)), bare)
        assert not torch.allclose(wanted, bare)


def test_a_tap_sees_and_changes_nothing() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    adapter = adaptr.create(model, "ear", where(model, "ear"))
    with torch.no_grad():
        bare = logits(model(**given))
        with adaptr.attach(model, adapter):
            assert torch.equal(logits(model(**given)), bare)
            assert len(SEEN) == 2
            model(**given)
            assert len(SEEN) == 4
        model(**given)
    assert len(SEEN) == 4


@pytest.mark.parametrize("name", ["in", "before", "words", "whole"])
def test_copies_pickles_and_gradients(name: str) -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    adapter = shaken(adaptr.create(model, name, where(model, name)))
    with adaptr.train(model, adapter) as session:
        logits(model(**given)).square().mean().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in session.parameters())
    with torch.no_grad(), adaptr.attach(model, adapter):
        on = logits(model(**given))
        assert torch.equal(logits(copy.deepcopy(model)(**given)), on)
        assert torch.equal(logits(pickle.load(io.BytesIO(pickle.dumps(model)))(**given)), on)


def test_a_layer_with_all_of_them_on_it_is_the_order_of_the_sites_whatever_came_first() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    path = "model.layers.0.mlp.down_proj"
    made = {name: shaken(adaptr.create(model, name, [path]), 3) for name in ("in", "words")}
    made["lora"] = shaken(adaptr.create(model, "lora", [path], r=2), 3)
    outputs = []
    with torch.no_grad():
        for order in (("lora", "in", "words"), ("words", "in", "lora"), ("in", "words", "lora")):
            handles = [adaptr.attach(model, made[name]) for name in order]
            outputs.append(logits(model(**given)))
            for handle in handles:
                handle.detach()
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("order", [("ear", "words"), ("words", "ear")])
def test_a_tap_sees_what_goes_on_whatever_came_first(order: tuple[str, str]) -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    path = "model.layers.1.mlp"
    made = {name: adaptr.create(model, name, [path]) for name in order}
    ear = made["ear"]
    made["ear"] = ear.replace(tensors={k: torch.ones_like(t) for k, t in ear.tensors.items()})
    out: list[Tensor] = []
    with torch.no_grad():
        for name in order:
            adaptr.attach(model, made[name])
        hook = model.model.layers[1].mlp.register_forward_hook(lambda m, a, y: out.append(y))
        model(**given)
    hook.remove()
    assert torch.equal(SEEN[0], out[0])


def test_a_changed_output_is_in_no_weight() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "words", where(model, "words"))
    target = next(iter(adapter.targets.values()))
    with pytest.raises(NotMergeable, match="Possible:"):
        plugins.hooks("words").merge(adapter=adapter, target=target, base=None, weight=1.0)


Roles = Callable[[Any], list[str]]


@pytest.mark.parametrize(
    ("site", "role", "path"),
    [
        ("embed", "", "model.embed_tokens"),
        ("head", "", "lm_head"),
        ("weight", "attn.q", "model.layers.1.self_attn.q_proj"),
        ("attention", "attention", "model.layers.1.self_attn"),
        ("output", "ffn_out", "model.layers.1.mlp"),
        ("prompt", "", ""),
        ("hidden", "", ""),
    ],
)
def test_a_site_finds_its_places_by_role(site: str, role: str, path: str) -> None:
    assert sites.site(site).find(tiny.model("llama"), role)[-1] == path
