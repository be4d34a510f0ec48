"""AdapterDrop: what is dropped is as if it were not there, in training and after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import adaptr
from adaptr.errors import BadConfig
from adaptr.host import Session
from adaptr.testing import Driver, assert_close, count, logits, shaken, tiny_llama

IDS = torch.arange(14).reshape(2, 7) + 3


def deep() -> Any:
    """Four layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 64}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, **sizes)).eval()


def loss(output: Any, batch: Any) -> torch.Tensor:
    return logits(output).float().log_softmax(-1)[..., 0].mean().neg()


def layers(keys: Any) -> set[str]:
    return {key.split(".")[2] for key in keys}


@torch.no_grad()
def run(model: Any, adapter: adaptr.Adapter) -> torch.Tensor:
    with adaptr.attach(model, adapter):
        return logits(model(IDS))


def test_what_is_dropped_is_as_if_it_were_not_there() -> None:
    model = deep()
    every = shaken(adaptr.create(model, "adapterdrop", fields={"m": 4}))
    inner = every.part("pfeiffer")
    for drop in range(4):
        kept = {path: target for path, target in inner.targets.items() if int(path.split(".")[2]) >= drop}
        tensors = {key: t for key, t in inner.tensors.items() if key.rpartition(":")[0] in kept}
        without = inner.replace(targets=kept, tensors=tensors)
        assert torch.equal(run(model, every.replace(config={**every.config, "drop": drop})), run(model, without))


def test_a_fresh_one_has_nothing_in_layers_that_are_dropped_for_good() -> None:
    model = deep()
    whole, some = (adaptr.create(model, "adapterdrop", fields={"m": 4}, drop=n) for n in (0, 3))
    assert layers(t.path for _, t in some.all_targets) == {"3"}
    assert 4 * count(some) == count(whole)
    with pytest.raises(BadConfig, match="wanted at most 3, or no layer is left"):
        adaptr.create(model, "adapterdrop", drop=4)


def test_each_step_draws_and_what_it_drops_has_no_gradient_nor_moves() -> None:
    model = deep().train()
    with adaptr.train(model, shaken(adaptr.create(model, "adapterdrop", fields={"m": 4}))) as session:
        drawn = []
        optimiser = torch.optim.AdamW(session.parameters(), lr=0.1, weight_decay=0.5)
        for _ in range(12):
            before = {key: p.detach().clone() for key, p in session.named().items()}
            optimiser.zero_grad()
            session.objective(Driver(session, [{"input_ids": IDS}], 1, loss).run(0)).backward()  # type: ignore[no-untyped-call]
            trained = {key for key, p in session.named().items() if p.grad is not None}
            optimiser.step()
            session.after_step()
            assert all(torch.equal(p, before[key]) != (key in trained) for key, p in session.named().items())
            drawn.append(min(map(int, layers(trained))))
        assert set(drawn) == {0, 1, 2, 3}
        model.eval()
        assert_close(logits(model(IDS)), run(deep(), session.adapted()))


def test_no_backward_goes_below_the_first_adapter() -> None:
    model = deep().train()
    with adaptr.train(model, adaptr.create(model, "adapterdrop", fields={"m": 4}, drop=2, robust=False)) as session:
        needed: list[bool] = []
        seen = lambda module, x, y: needed.append(y.requires_grad)
        hooks = [layer.register_forward_hook(seen) for layer in model.model.layers]
        session.objective(Driver(session, [{"input_ids": IDS}], 1, loss).run(0))
        for hook in hooks:
            hook.remove()
    assert needed == [False, False, True, True]


def test_a_method_that_merges_is_merged_where_it_stands() -> None:
    model = tiny_llama()
    made = shaken(adaptr.create(model, "adapterdrop", inner="lora", fields={"r": 2, "targets": ["mlp.down"]}))
    made = made.replace(config={**made.config, "drop": 1})
    with torch.no_grad(), adaptr.attach(model, made, merged=True):
        merged = logits(model(IDS))
    assert_close(merged, run(model, made))


def test_all_processes_and_a_run_that_goes_on_draw_alike() -> None:
    def strengths(session: Session) -> list[float]:
        session.objective(Driver(session, [{"input_ids": IDS}], 1, loss).run(0))
        return [state.strength for state in session.states.values()]

    model = deep().train()
    adapter, found = adaptr.create(model, "adapterdrop", fields={"m": 4}), []
    for _ in range(2):
        with adaptr.train(model, adapter) as session:
            session.steps = 7
            found.append(strengths(session))
    assert found[0] == found[1]
