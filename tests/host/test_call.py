"""Forwards of one model that overlap: each is what it is alone, whatever runs it."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import adaptr
import tiny
from adaptr import errors
from adaptr.host import call
from adaptr.testing import assert_close, shaken


def elsewhere(run: Callable[[], Any]) -> Any:
    """What `run` gives in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    assert found, "the other thread raised"
    return found[0]


@contextmanager
def in_the_middle(module: nn.Module, run: Callable[[], Any]) -> Iterator[list[Any]]:
    """While it is entered, the next forward of `module` first has another thread do `run`, to its end."""
    found: list[Any] = []

    def hook(*_: object) -> None:
        if not found:
            found.append(None)
            found[0] = elsewhere(run)

    handle = module.register_forward_pre_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def said(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(5)
    one, two = (torch.randint(3, tiny.VOCAB, (2, n), generator=made) for n in (7, 7))
    return one, two


def on_experts(model: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "lora", ["*experts*"], r=4))


def over_two(model: Any, **config: object) -> adaptr.Adapter:
    children = {n: shaken(adaptr.create(model, "lora", r=4, seed=i), i) for i, n in enumerate("ab")}
    return shaken(adaptr.create(model, "xlora", children=children, dropout=0.0, **config), 3, by=2.0)


def plain(method: str, **config: object) -> Callable[[Any], adaptr.Adapter]:
    return lambda model: shaken(adaptr.create(model, method, **config))


#: The model, the adapter, and the module before which another thread comes in.
CASES: dict[str, tuple[str, Callable[[Any], adaptr.Adapter], str]] = {
    "experts": ("mixtral", on_experts, "model.layers.0.mlp.experts.act_fn"),
    "gate": ("llama", over_two, "model.layers.1.mlp"),
    "gate, its pass": ("llama", over_two, "model.layers.0.self_attn"),
    "prompt": ("llama", plain("prompt", tokens=3), "model.layers.1"),
    "prefix": ("llama", plain("prefix", tokens=3), "model.layers.1"),
    "parallel": ("llama", plain("parallel", m=8), "model.layers.0.mlp.act_fn"),
    "reading another module": ("gpt2", plain("parallel", m=8), "transformer.h.0.mlp.act"),
    "two at one layer": ("llama", plain("mam", m=8), "model.layers.1.mlp"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_forward_in_another_thread_leaves_the_one_under_way_alone(case: str) -> None:
    name, make, middle = CASES[case]
    model = tiny.model(name)
    one, two = texts()
    bare = said(model, one)
    with adaptr.attach(model, make(model)):
        wanted, other = said(model, one), said(model, two)
        assert not torch.allclose(wanted, bare)
        with in_the_middle(model.get_submodule(middle), lambda: said(model, two)) as found:
            assert torch.equal(said(model, one), wanted)
        assert torch.equal(found[0], other)


def test_a_forward_of_another_length_may_come_in_between() -> None:
    model = tiny.model("llama")
    one, two = texts()[0], texts()[1][:1, :4]
    with adaptr.attach(model, plain("prompt", tokens=3)(model)):
        wanted = said(model, one)
        with in_the_middle(model.model.layers[0], lambda: said(model, two)) as found:
            assert torch.equal(said(model, one), wanted)
        assert found[0].shape[:2] == two.shape


def test_the_first_forward_of_two_threads_at_once_moves_factors_once() -> None:
    model = tiny.model("llama")
    one, two = (shaken(adaptr.create(model, "lora", r=4, name=n), i) for i, n in enumerate("ab"))
    ids = texts()[0]
    with adaptr.attach(model, one), adaptr.attach(model, two):
        found = [None] * 4

        def run(i: int) -> None:
            found[i] = said(model, ids)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = said(model, ids)
    assert all(other is not None and torch.equal(other, wanted) for other in found)


@pytest.mark.parametrize("case", ["gate", "prompt", "parallel", "experts"])
def test_a_forward_that_fails_leaves_nothing_behind(case: str) -> None:
    name, make, middle = CASES[case]
    model = tiny.model(name)
    ids = texts()[0]

    def fail(*_: object) -> None:
        raise ValueError("in the middle")

    with adaptr.attach(model, make(model)):
        wanted = said(model, ids)
        hook = model.get_submodule(middle).register_forward_pre_hook(fail)
        with pytest.raises(ValueError, match="in the middle"):
            said(model, ids)
        hook.remove()
        assert torch.equal(said(model, ids), wanted)


def gradients(model: Any, adapter: adaptr.Adapter, how: Callable[[torch.Tensor], None]) -> list[torch.Tensor]:
    """Of a session after one loss over two forwards, whose weights for a token differ."""
    with adaptr.train(model, adapter) as session:
        losses = [model(input_ids=ids, use_cache=False).logits.square().mean() for ids in texts()]
        how(losses[0] + 3 * losses[1])
        return [p.grad.clone() for p in session.parameters() if p.grad is not None]


# re-entrant recomputation can't go backward through one gate from several layers: torch says so
@pytest.mark.parametrize(
    ("case", "reentrant"), [("gate", False), *((case, on) for case in ("experts", "parallel") for on in (False, True))]
)
@pytest.mark.parametrize(
    "how", [torch.Tensor.backward, lambda loss: elsewhere(lambda: loss.backward() or True)], ids=["here", "elsewhere"]
)
def test_recomputed_layers_find_what_belonged_to_their_forward(case: str, how: Any, reentrant: bool) -> None:
    name, make, _ = CASES[case]
    adapter, found = make(tiny.model(name)), []
    for recompute in (False, True):
        model = tiny.model(name).train()
        if recompute:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            if reentrant:
                model.enable_input_require_grads()
        found.append(gradients(model, adapter, how if recompute else torch.Tensor.backward))
    assert len(found[0]) == len(found[1]) > 0
    for one, other in zip(*found, strict=True):
        assert float(one.abs().max()) > 0
        assert_close(other, one)


def test_checkpointing_is_as_it_was_after_training_a_gate() -> None:
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable()
    before = [module.__dict__.get("_gradient_checkpointing_func") for module in model.modules()]
    gradients(model, over_two(model), torch.Tensor.backward)
    after = [module.__dict__.get("_gradient_checkpointing_func") for module in model.modules()]
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_layers_recomputed_by_a_checkpoint_of_ones_own_are_refused() -> None:
    model = tiny.model("llama")
    layer = model.model.layers[0]
    again = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    with adaptr.train(model, over_two(model)):
        layer.forward = again
        loss = model(input_ids=texts()[0], use_cache=False).logits.square().mean()
        with pytest.raises(errors.Unsupported, match="activation_checkpointing_enable"):
            loss.backward()


def test_blocks_that_go_backward_on_their_own_are_refused_under_a_gate_that_learns() -> None:
    """Its weights are one graph above all of them; of a gate that is attached there is no graph."""
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    made = over_two(model)
    with adaptr.train(model, made), pytest.raises(errors.Unsupported, match=r"use_reentrant.*False"):
        model(input_ids=texts()[0], use_cache=False)
    with adaptr.attach(model, made):
        model(input_ids=texts()[0], use_cache=False)
        model.activation_checkpointing_disable()
    with adaptr.train(model, made):
        model(input_ids=texts()[0], use_cache=False)


def test_what_is_put_again_leaves_nothing_older_behind() -> None:
    owner, before = object(), call.chain()
    call.put(owner, 1)
    call.put(owner, 2)
    assert call.take(owner) == 2
    assert call.find(owner) is None
    assert call.chain() == before


def test_only_a_forward_sees_adapted_experts() -> None:
    model = tiny.model("mixtral")
    experts = model.model.layers[0].mlp.experts
    raw, path = experts.down_proj, "model.layers.0.mlp.experts.down_proj"
    with adaptr.attach(model, on_experts(model)):
        seen = []
        hook = experts.act_fn.register_forward_hook(lambda *_: seen.append(experts.down_proj))
        said(model, texts()[0])
        hook.remove()
        assert not torch.equal(seen[0], raw)
        assert experts.down_proj is raw
        assert model.get_parameter(path) is raw


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_adapted_experts_are_copied_with_their_model(copied: Callable[[Any], Any]) -> None:
    model, ids = tiny.model("mixtral"), texts()[0]
    with adaptr.attach(model, on_experts(model)):
        wanted = said(model, ids)
        assert_close(said(copied(model), ids), wanted, to=1e-6)


@pytest.mark.parametrize("implementation", ["batched_mm", "grouped_mm"])
def test_adapted_experts_compile_without_a_break(implementation: str) -> None:
    model, ids = tiny.model("mixtral"), texts()[0]
    model.set_experts_implementation(implementation)
    with adaptr.attach(model, on_experts(model)):
        wanted = said(model, ids)
        assert_close(said(torch.compile(model, backend="eager", fullgraph=True), ids), wanted, to=1e-6)
