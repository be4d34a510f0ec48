"""AdaMix: experts that are drawn, an objective of two forwards, and one bottleneck of them all when it is finished."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import adaptr
from adaptr import plugins
from adaptr.errors import Unsupported
from adaptr.testing import Driver, assert_close, logits, shaken, tiny_llama

IDS = torch.arange(14).reshape(2, 7) + 3


@pytest.mark.parametrize(("share_up", "most"), [(True, 16), (False, 256)])
def test_experts_are_drawn_in_training_and_meant_afterwards(share_up: bool, most: int) -> None:
    """Of two layers, each with four experts on one side or on both, drawn apart."""
    model = tiny_llama()
    adapter = shaken(adaptr.create(model, "adamix", m=4, share_up=share_up))
    with torch.no_grad(), adaptr.train(model, adapter) as session:
        routings = {tuple(logits(model(IDS))[0, 0].tolist()) for _ in range(40)}
        assert most // 8 < len(routings) <= most
        model.eval()
        meant = logits(model(IDS))
        finished = session.finish()
    assert {t.shape[0] for t in finished.tensors.values()} == {1}
    assert not any(mount.context for mount in plugins.method("adamix").mounts(model, finished))
    with torch.no_grad(), adaptr.attach(model, finished):
        assert_close(logits(model(IDS)), meant)


def test_the_objective_is_the_loss_and_what_two_forwards_differ_by() -> None:
    model = tiny_llama().train()
    adapter = shaken(adaptr.create(model, "adamix", m=4, consistency=2.0))

    def loss(output: Any, batch: Any) -> torch.Tensor:
        return logits(output).square().mean()

    with adaptr.train(model, adapter) as session:
        driver = Driver(session, [{"input_ids": IDS}], 1, loss)
        found = session.objective(driver.run(0))
        session.draws.number = 0
        one, two = (model(IDS).logits for _ in range(2))
        p, q = (x.softmax(-1) for x in (one, two))
        kl = [(a * (a.log() - b.log())).sum(-1).mean() for a, b in ((p, q), (q, p))]
        assert_close(found, one.square().mean() + sum(kl))


def test_alike_experts_stay_one_adapter() -> None:
    """Where all are drawn as often, all alike: M experts that are one adapter do what it does, in training as well."""
    model = tiny_llama()
    adapter = adaptr.create(model, "adamix", m=4)
    generator = torch.Generator().manual_seed(1)
    ups = {k: torch.randn(t.shape, generator=generator) for k, t in adapter.tensors.items() if k.endswith(":U")}
    adapter = adapter.replace(tensors={**adapter.tensors, **ups})
    with torch.no_grad(), adaptr.attach(model, adapter):
        meant = logits(model(IDS))
    with torch.no_grad(), adaptr.train(model, adapter):
        assert_close(logits(model(IDS)), meant)


def test_numbers_are_compared_by_their_squares_and_an_output_without_logits_is_refused() -> None:
    method = plugins.method("adamix")
    outputs = iter([{"loss": 0, "logits": torch.tensor([[1.0], [2.0]])}, {"logits": torch.tensor([[1.0], [4.0]])}])
    session: Any = SimpleNamespace(adapter=SimpleNamespace(config={}))
    assert float(method.objective(session, lambda: (torch.tensor(1.0), next(outputs)))) == 1.0 + 2.0
    with pytest.raises(Unsupported, match="no logits"):
        method.objective(session, lambda: (torch.tensor(1.0), (torch.tensor(0.0),)))


def test_it_is_the_papers_bottleneck() -> None:
    """Written down for the experts' means, without the method's own code."""
    model = tiny_llama()
    adapter = shaken(adaptr.create(model, "adamix", m=4, share_up=False, activation="relu"))
    one, method = adapter.at("model.layers.1.mlp"), plugins.method("adamix")
    h = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    D, b, U, c = (one[name].mean(0) for name in ("D", "b", "U", "b_u"))
    assert_close(method.branch(h, h, one, method.config(adapter.config)), (h @ D.T + b).relu() @ U.T + c)


# ---------------------------------------------------------------- experts that are LoRA's A


@pytest.mark.parametrize(("share_up", "most"), [(True, 16), (False, 256)])
def test_loras_are_drawn_and_finished_as_one_that_merges(share_up: bool, most: int) -> None:
    """Of two layers, q of each: what is kept is the LoRA of the means, exactly."""
    model = tiny_llama()
    adapter = shaken(adaptr.create(model, "adamix-lora", ["attn.q"], r=2, experts=4, share_up=share_up))
    with torch.no_grad(), adaptr.train(model, adapter) as session:
        routings = {tuple(logits(model(IDS))[0, -1].tolist()) for _ in range(40)}
        assert most // 8 < len(routings) <= most
        model.eval()
        meant = logits(model(IDS))
        finished = session.finish()
    lora = adaptr.create(model, "lora", ["attn.q"], r=2, alpha=32.0)
    lora = lora.replace(tensors={key: finished.tensors[key][0] for key in lora.tensors})
    for each in (finished, lora):
        with torch.no_grad(), adaptr.attach(model, each):
            assert_close(logits(model(IDS)), meant)
    with torch.no_grad(), adaptr.attach(model, finished, merged=True):
        assert_close(logits(model(IDS)), meant)


def test_alike_loras_stay_one() -> None:
    model = tiny_llama()
    adapter = adaptr.create(model, "adamix-lora", r=2, experts=4)
    A = adapter.tensors["model.layers.0.self_attn.q_proj:A"]
    assert all(torch.equal(A[0], one) for one in A)
    ups = {key: torch.ones_like(t) for key, t in adapter.tensors.items() if key.endswith(":B")}
    adapter = adapter.replace(tensors={**adapter.tensors, **ups})
    with torch.no_grad(), adaptr.attach(model, adapter):
        meant = logits(model(IDS))
    with torch.no_grad(), adaptr.train(model, adapter):
        assert_close(logits(model(IDS)), meant)
