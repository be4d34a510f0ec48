"""The laws, on a method that trains two tensors for all layers, and what it promises beside."""

import torch

import adaptr
import adaptr.testing
from adaptr.testing import assert_close, count, logits, shaken, tiny_llama


class TestTiedLoRA(adaptr.testing.Laws):
    method = "shared-pair"


class TestTiedLoRAWithoutVectors(adaptr.testing.Laws):
    method = "shared-pair"
    config = {"vectors": False}


def test_the_papers_counts() -> None:
    """4 d r + L (r + 3 d) for a layer of queries, keys and values in one: LLaMA-2-7B at r = 8, and a small one."""
    for d, layers, wanted in ((4096, 32, 524_544), (768, 12, 52_320)):
        targets = {f"{i}": adaptr.Target(f"{i}", "linear", (3 * d, d), {"r": 8}) for i in range(layers)}
        assert count(adaptr.Adapter("shared-pair", {}, targets, {})) == wanted


def test_each_layer_is_a_lora_of_its_own_vectors() -> None:
    model = tiny_llama()
    tied = shaken(adaptr.create(model, "shared-pair", r=2, alpha=3.0))
    lora = adaptr.create(model, "lora", list(tied.targets), r=2, alpha=3.0)
    tensors = {}
    for path in tied.targets:
        p = tied.at(path)
        tensors |= {f"{path}:A": p["u"][:, None] * p["A"], f"{path}:B": p["v"][:, None] * p["B"]}
    ids = torch.arange(7)[None] + 3
    with torch.no_grad(), adaptr.attach(model, tied):
        found = logits(model(ids))
    with torch.no_grad(), adaptr.attach(model, lora.replace(tensors=tensors)):
        assert_close(found, logits(model(ids)))
