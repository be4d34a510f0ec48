"""What is said to be kept for the backward, against what torch keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
from adaptr import plugins
from adaptr.contract.costs import Costing
from adaptr.planning.estimate import Candidate
from adaptr.planning.foundation import foundation
from adaptr.planning.looking import looked
from adaptr.planning.memory import Terms
from adaptr.planning.structure import structure
from planning.configs import SMALL

ROWS, LENGTH = 2, 32


def model_of(config: dict[str, Any]) -> Any:
    import transformers

    sizes = {key: value for key, value in config.items() if key not in {"architectures", "model_type"}}
    made = transformers.AutoConfig.for_model(config["model_type"], **sizes)
    return getattr(transformers, config["architectures"][0])(made).train()


def kept(model: Any) -> int:
    """Bytes of all that autograd keeps of a forward with its loss, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 1000, (ROWS, LENGTH))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(input_ids=ids, labels=ids)
    assert out.loss.requires_grad
    return sum(found.values())


def said(config: dict[str, Any], method: str, values: dict[str, Any], targets: Any = None) -> int:
    base = foundation(config)
    one = Candidate(base, structure(base), method, values, targets)
    left = one._flow(Terms(4, device="cpu"), LENGTH)
    logits = (LENGTH + one._most("longer")) * config["vocab_size"] * 4
    return ROWS * (sum(left.blocks) + left.outside + logits) + left.once


@pytest.mark.parametrize("method", ["", *sorted(set(plugins.builtin_files()))])
def test_every_method_on_a_llama(method: str) -> None:
    model = model_of(SMALL)
    values = learning(model, method) if method else {}
    assert said(SMALL, method, values) == pytest.approx(
        kept(model), rel=(plugins.method(method) if method else Costing).kept_within
    )


def learning(model: Any, method: str) -> dict[str, Any]:
    """The configuration that a method learns with on a model so small."""
    own = dict(plugins.method(method).small)
    for values in ({}, own):
        try:
            adaptr.train(model, adaptr.create(model, method, **values))
        except adaptr.AdaptrError as error:
            said = error
        else:
            return values
    pytest.skip(f"`{method}` can't be made on a bare llama: {said}")


@pytest.mark.parametrize("targets", [["attn.q"], ["attn.o"], ["mlp.up"], ["mlp.down"], ["re:.*layers.2.*"]], ids=str)
def test_nothing_is_kept_before_the_first_that_learns(targets: list[str]) -> None:
    model = model_of(SMALL)
    adaptr.train(model, adaptr.create(model, "lora", targets))
    # in the first block that learns a product of two keeps one, where only the other learns
    assert said(SMALL, "lora", {}, targets) == pytest.approx(kept(model), rel=0.1 if targets == ["mlp.up"] else 0.02)


OTHERS = {
    "qwen3": {**SMALL, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 8},
    "gemma": {**SMALL, "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "head_dim": 8},
    "phi3": {**SMALL, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "pad_token_id": 0},
    "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 48, "n_layer": 3, "n_head": 6,
             "n_positions": 128, "vocab_size": 1001, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("method", ["", "lora", "dora", "prompt", "houlsby"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_decoders(name: str, method: str) -> None:
    model = model_of(OTHERS[name])
    values = learning(model, method) if method else {}
    assert said(OTHERS[name], method, values) == pytest.approx(kept(model), rel=0.07)


@pytest.mark.parametrize("method", ["lora", "adalora", "dora", "ia3", "houlsby"])
def test_what_a_method_says_is_what_a_run_shows(method: str) -> None:
    own = plugins.method(method)
    sketch = foundation(SMALL).model
    shapes = {target.shape: target for _, target in own.outline(sketch)}
    for target in shapes.values():
        assert own.costs(target, own.config(target.config)) == looked(own, target)
