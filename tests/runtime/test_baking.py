"""Virtual tokens in a cache are what the attached adapter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import Unsupported
from adaptr.testing import assert_close, shaken

IDS = torch.tensor([[5, 7, 11, 2, 9, 3], [4, 8, 1, 6, 10, 12]])
BAKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "prompt": ("llama", "prompt", {"tokens": 3}),
    "prompt by learned positions": ("gpt2", "p-tuning", {"tokens": 3}),
    "prefix": ("llama", "prefix", {"tokens": 3}),
    "prefix of part of a head": ("neox", "prefix", {"tokens": 3, "mlp": 4}),
    "shifted prefix": ("llama", "prefix", {"tokens": 3, "position_offset": "shift"}),
    "cartridge": ("gpt2", "cartridge", {"ids": [5, 9, 4]}),
}


def generated(model: Any, mask: torch.Tensor, **more: Any) -> torch.Tensor:
    settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        return model.generate(IDS, attention_mask=mask, **settings, **more)[:, IDS.shape[1] :]


@pytest.mark.parametrize("name", BAKED)
def test_a_baked_adapter_generates_what_the_attached_one_does(name: str) -> None:
    architecture, method, config = BAKED[name]
    model = tiny.model(architecture)
    adapter = shaken(adaptr.create(model, method, **config), by=0.5)
    mask = torch.ones_like(IDS)
    mask[1, :2] = 0  # padded on the left
    bare = model(IDS, attention_mask=mask).logits
    with torch.no_grad(), adaptr.attach(model, adapter):
        wanted, known = generated(model, mask), model(IDS, attention_mask=mask).logits
    baked = adaptr.bake(model, adapter)
    assert baked.tokens == 3
    for _ in range(2):  # a cache is filled by the call that has it
        cache = baked.cache(len(IDS))
        assert torch.equal(generated(model, baked.mask(mask), past_key_values=cache), wanted)
    longer = baked.mask(mask)
    at = (longer.cumsum(1) - 1)[:, 3:]
    with torch.no_grad():
        found = model(IDS, attention_mask=longer, position_ids=at, past_key_values=baked.cache(len(IDS))).logits
    assert_close(found[0], known[0])
    assert_close(found[1, 2:], known[1, 2:])
    assert not torch.allclose(known, bare, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "method", "says"),
    [
        ("llama", "lora", "no cache that a text goes on from"),
        ("bert", "prompt", "no cache that a text goes on from"),
        ("t5", "prefix", "no cache that a text goes on from"),
        ("gpt2", "prefix", "stands further on"),
        ("gemma3", "prefix", "forget what is far back"),
        ("llama", "gated-prefix", "an attention of its own"),
    ],
)
def test_what_can_be_in_no_cache_is_refused(architecture: str, method: str, says: str) -> None:
    model = tiny.model(architecture)
    with pytest.raises(Unsupported, match=says):
        adaptr.bake(model, adaptr.create(model, method))


def test_a_prefix_at_some_layers_is_in_no_cache() -> None:
    model = tiny.model("llama")
    with pytest.raises(Unsupported, match="not at all attentions"):
        adaptr.bake(model, adaptr.create(model, "prefix", ["re:.*layers.1.self_attn"]))


@pytest.mark.parametrize("name", BAKED)
def test_what_is_written_does_the_same_and_is_the_cache(name: str, tmp_path: Path) -> None:
    architecture, method, config = BAKED[name]
    model = tiny.model(architecture)
    model.save_pretrained(tmp_path / "base")
    adapter = shaken(adaptr.create(model, method, **config), by=0.5)
    adaptr.save(adapter, tmp_path / "a.safetensors")
    report = adaptr.bake_file(tmp_path / "base", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (report.tokens, report.method_before) == (3, method)
    written = adaptr.load(tmp_path / "b.safetensors")
    assert written.lineage["operation"] == "bake"
    with torch.no_grad(), adaptr.attach(model, adapter):
        wanted = model(IDS).logits
    with torch.no_grad(), adaptr.attach(model, written):
        assert_close(model(IDS).logits, wanted)
    one, other = (adaptr.bake(model, each).filled.layers for each in (adapter, written))
    assert all(torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values) for a, b in zip(one, other, strict=True))
