"""What is said to be kept for the backward, against what torch keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
from adaptr import plugins
from adaptr.planning.estimate import Candidate
from adaptr.planning.foundation import foundation
from adaptr.planning.looking import looked
from adaptr.planning.memory import Terms
from adaptr.planning.structure import structure
from planning.configs import SMALL

ROWS, LENGTH = 2, 32
SMALLER: dict[str, dict[str, Any]] = {"houlsby": {"m": 8}, "parallel": {"m": 8}, "mam": {"m": 8}, "oft": {"b": 8}}
#: Where torch keeps otherwise on the meta device, or by the size of a tensor: shares that are allowed.
LOOSER = {
    "oft": 0.12,
    "boft": 0.07,
    "hra": 0.06,
    "krona-bres": 0.07,
    "qlora": 0.05,
    "far": 0.05,
    "vera": 0.1,  # the matrices between its vectors, which are there once whatever the forward
    "lokr": 0.1,
    "loha": 0.05,
    "mam": 0.04,
    "shira": 0.05,
    "randlora": 0.07,
    "longlora": 0.06,  # the attention's output, of groups and of all of them together
}


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
    values = SMALLER.get(method, {})
    model = model_of(SMALL)
    try:
        if method:
            adaptr.train(model, adaptr.create(model, method, **values))
    except adaptr.AdaptrError as error:
        pytest.skip(f"`{method}` can't be made on a bare llama: {error}")
    assert said(SMALL, method, values) == pytest.approx(kept(model), rel=LOOSER.get(method, 0.025))


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
    values, model = SMALLER.get(method, {}), model_of(OTHERS[name])
    if method:
        adaptr.train(model, adaptr.create(model, method, **values))
    assert said(OTHERS[name], method, values) == pytest.approx(kept(model), rel=0.07)


@pytest.mark.parametrize("method", ["lora", "adalora", "dora", "ia3", "houlsby"])
def test_what_a_method_says_is_what_a_run_shows(method: str) -> None:
    own = plugins.method(method)
    sketch = foundation(SMALL).model
    shapes = {target.shape: target for _, target in own.outline(sketch)}
    for target in shapes.values():
        assert own.costs(target, own.config(target.config)) == looked(own, target)
