"""LT-SFT selects over all that it trains, and trains what it selected anew."""

from typing import Any

import torch

import adaptr
from adaptr.testing import Driver, assert_close, logits, tiny_llama

IDS = torch.arange(14).reshape(2, 7) + 3


def loss(output: Any, batch: Any) -> torch.Tensor:
    return logits(output).log_softmax(-1)[..., 0].mean().neg()


def test_the_share_that_moved_most_is_chosen_of_all_and_trained_from_the_start() -> None:
    model = tiny_llama().train()
    base = {name: p.detach().clone() for name, p in model.named_parameters()}
    adapter = adaptr.create(model, "lt-sft", ["attn.q", "mlp.down"], also=["norm"], share=0.01)
    with adaptr.train(model, adapter) as session:
        driver = Driver(session, [{"input_ids": IDS}], 8, loss)
        driver.fit(4)
        named = session.named()
        moved = {k: (p - base[k[:-2]] if k.endswith("=") else p).detach().abs() for k, p in named.items()}
        every = torch.cat([change.flatten() for change in moved.values()])
        K = round(0.01 * len(every))
        least = every.sort(descending=True).values[K - 1]
        driver.fit()
        finished = session.finish()
        with torch.no_grad():
            wanted = logits(model(IDS))
    entries = sum(t.numel() for key, t in finished.tensors.items() if key.endswith(":v"))
    for key, mask in session.memory.items():
        change = moved[key.removesuffix(".mask")]
        assert bool((change[mask] >= least).all())
        assert bool((change[~mask] <= least).all())
    assert sum(int(mask.sum()) for mask in session.memory.values()) == K
    assert 0 < entries <= K
    for key, tensor in finished.tensors.items():
        if key.endswith(":="):
            same = ~session.memory[f"{key}.mask"]
            assert torch.equal(tensor[same], base[key[:-2]][same])
    assert not any(key.endswith(":D") for key in finished.tensors)
    with adaptr.attach(model, finished), torch.no_grad():
        assert_close(logits(model(IDS)), wanted)


def test_a_penalty_keeps_it_near_the_base() -> None:
    sizes = []
    for l1 in (0.0, 1e4):
        model = tiny_llama().train()
        with adaptr.train(model, adaptr.create(model, "lt-sft", ["attn.q"], l1=l1)) as session:
            Driver(session, [{"input_ids": IDS}], 6, loss).fit(3)
            sizes.append(sum(float(p.detach().abs().sum()) for p in session.parameters()))
    assert sizes[1] < sizes[0] / 2
