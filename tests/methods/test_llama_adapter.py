"""LLaMA-Adapter: against attention written out, where it goes, and with caches, padding and beams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import adaptr
import tiny
from adaptr.errors import Unsupported
from adaptr.testing import assert_close, shaken

IDS = torch.tensor([[5, 7, 11, 2, 9, 3], [4, 8, 1, 6, 10, 12]])


def made(model: Any, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "llama-adapter", tokens=3, **config), by=0.5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("config", [{}, {"gate": "layer", "activation": "none"}], ids=str)
def test_it_is_a_second_softmax_over_its_rows_alone(implementation: str, config: dict[str, Any]) -> None:
    """By hooks around the projections of a GPT-2, whose keys have no place."""
    model = tiny.model("gpt2")
    model.set_attn_implementation(implementation)
    adapter = made(model, layers=1, **config)
    (path,) = adapter.targets
    module, (A, g) = model.get_submodule(path), (adapter.at(path)[name] for name in "Ag")
    heads = lambda t: t.unflatten(-1, (tiny.HEADS, -1)).transpose(-3, -2)
    caught: dict[str, Any] = {}
    K, V = map(heads, module.c_attn(A)[:, tiny.WIDTH :].split(tiny.WIDTH, -1))

    def add(_: Any, args: Any) -> Any:
        q = heads(caught["y"][..., : tiny.WIDTH])
        gate = g if config else g.tanh()
        more = gate * ((q @ K.mT / K.shape[-1] ** 0.5).softmax(-1) @ V)
        return (args[0] + more.transpose(1, 2).flatten(2),)

    with torch.no_grad():
        hooks = [
            module.c_attn.register_forward_hook(lambda m, a, y: caught.update(y=y)),
            module.c_proj.register_forward_pre_hook(add),
        ]
        wanted = model(IDS).logits
        for hook in hooks:
            hook.remove()
        with adaptr.attach(model, adapter):
            assert_close(model(IDS).logits, wanted)


def test_it_goes_to_the_topmost_layers_and_says_how_many_they_are() -> None:
    model = tiny.model("t5")
    attentions = ["encoder.block.{}.layer.0.SelfAttention", "decoder.block.{}.layer.0.SelfAttention"]
    top = [path.format(1) for path in [*attentions, "decoder.block.{}.layer.1.EncDecAttention"]]
    adapter = made(model, layers=1)
    assert [*adapter.targets] == top
    assert adapter.config["layers"] == 1
    assert made(model).config["layers"] == 2
    named = adaptr.create(model, "llama-adapter", ["re:decoder.block.0.*SelfAttention"])
    assert named.config["layers"] == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "neox"])
def test_caches_padding_and_beams(name: str) -> None:
    model = tiny.model(name)
    short, mask = IDS.clone(), torch.ones_like(IDS)
    short[1, :2], mask[1, :2] = 0, 0

    def generated(ids: torch.Tensor, mask: torch.Tensor, **more: Any) -> torch.Tensor:
        settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        return model.generate(ids, attention_mask=mask, **settings, **more)[:, ids.shape[1] :]

    with torch.no_grad(), adaptr.attach(model, made(model)):
        cached = generated(short, mask)
        assert torch.equal(generated(short, mask, use_cache=False), cached)
        assert torch.equal(generated(short, mask, cache_implementation="static"), cached)
        assert torch.equal(generated(short[1:, 2:], mask[1:, 2:]), cached[1:])
        assert torch.equal(generated(short, mask, num_beams=3), generated(short, mask, num_beams=3, use_cache=False))


def test_what_peft_computes_of_a_biased_output_layer_is_refused(tmp_path: Path) -> None:
    biased = LlamaForCausalLM(LlamaConfig(**tiny.GROUPED, attention_bias=True)).eval()
    theirs = made(tiny.model("llama"), gate="layer", activation="none")
    adaptr.save(theirs, tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft", base=tiny.model("llama"))
    with pytest.raises(Unsupported, match="bias of the output layer twice"):
        adaptr.attach(biased, adaptr.load(tmp_path / "peft", biased))


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("llama", {}, "one gate for each layer"),
        ("gpt2", {"gate": "layer", "activation": "none"}, "called `self_attn`"),
    ],
)
def test_what_peft_can_not_have(name: str, config: dict[str, Any], says: str, tmp_path: Path) -> None:
    adaptr.save(made(tiny.model(name), **config), tmp_path / "a.safetensors")
    with pytest.raises(Unsupported, match=says):
        adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft", base=tiny.model(name))
