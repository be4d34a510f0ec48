"""The laws, on a method that draws and has an objective of two forwards, and what it promises beside."""

import torch

import adaptr
import adaptr.testing
from adaptr.testing import Driver, assert_close, count, logits, shaken, tiny_llama

IDS = torch.arange(14).reshape(2, 7) + 3


class TestAdaMix(adaptr.testing.Laws):
    method = "adamix"
    config = {"m": 8}


def test_the_papers_counts() -> None:
    """BERT-base with m = 48: 2,223,360 in training, and 894,528 when it is finished."""
    for experts, wanted in ((4, 2_223_360), (1, 894_528)):
        targets = {f"{i}": adaptr.Target(f"{i}", "module", (768,), {"m": 48, "experts": experts}) for i in range(12)}
        assert count(adaptr.Adapter("adamix", {}, targets, {})) == wanted


def test_experts_are_drawn_in_training_and_meant_afterwards() -> None:
    model = tiny_llama()
    adapter = shaken(adaptr.create(model, "adamix", m=4))
    with torch.no_grad(), adaptr.train(model, adapter) as session:
        routings = {tuple(logits(model(IDS))[0, 0].tolist()) for _ in range(40)}
        assert 4 < len(routings) <= 16
        model.eval()
        meant = logits(model(IDS))
        finished = session.finish()
    assert {t.shape[0] for key, t in finished.tensors.items() if key.endswith(":D")} == {1}
    with torch.no_grad(), adaptr.attach(model, finished):
        assert_close(logits(model(IDS)), meant)


def test_the_objective_is_the_loss_and_what_two_forwards_differ_by() -> None:
    model = tiny_llama().train()
    adapter = shaken(adaptr.create(model, "adamix", m=4, consistency=2.0))
    loss = lambda output, batch: logits(output).square().mean()
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
