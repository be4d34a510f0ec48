"""Live models of PEFT, and pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

import adaptr
import tiny
from adaptr.errors import TargetNotFound, UsageError
from adaptr.testing import shaken
from training_data import tokenizer

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers so
def test_an_adapter_goes_to_a_live_peft_model_and_comes_back() -> None:
    pytest.importorskip("peft")
    model = tiny.MAKERS["llama"]().eval()
    adapter = shaken(adaptr.create(model, "lora", ["attn.q", "mlp.down"], r=2))
    with adaptr.attach(model, adapter):
        wanted = model(IDS).logits
    there = adaptr.to_peft(adapter, model)
    assert type(there).__name__.startswith("PeftModel")
    assert_close(there.eval()(IDS).logits, wanted)
    again = adaptr.from_peft(there)
    assert {key: tensor.tolist() for key, tensor in again.tensors.items()} == {
        key: tensor.tolist() for key, tensor in adapter.tensors.items()
    }
    with pytest.raises(UsageError, match="it has default"):
        adaptr.from_peft(there, "style")
    with pytest.raises(UsageError, match="PeftModel"):
        adaptr.from_peft(tiny.MAKERS["llama"]())


@pytest.fixture
def pipe() -> Any:
    """A pipeline of transformers' own, whose answers are what it computes of words that it knows."""
    return transformers.pipeline("feature-extraction", model=tiny.MAKERS["llama"]().eval(), tokenizer=tokenizer())


def test_a_pipeline_stands_for_its_model(pipe: Any, tmp_path: Path) -> None:
    adapter = shaken(adaptr.create(pipe, "lora", ["attn.q"], r=2))
    before = pipe("w1 w2")
    with adaptr.attach(pipe, adapter):
        after = pipe("w1 w2")
    assert after != before == pipe("w1 w2")
    with adaptr.stack(pipe, {"a": adapter}):
        assert pipe("w1 w2") == after
    with adaptr.attach(pipe, adapter, merged=True):
        assert_close(torch.tensor(pipe("w1 w2")), torch.tensor(after))
    with adaptr.train(pipe, adapter) as session:
        assert list(session.parameters())
    with adaptr.pool(pipe, slots=1) as pool:
        pool.add("a", adapter)
    adaptr.convert(adapter, tmp_path / "peft", "peft", base=pipe)
    assert adaptr.load(tmp_path / "peft", base=pipe).targets == adapter.targets
    assert type(adaptr.bake(pipe, adaptr.create(pipe, "prompt", tokens=2))).__name__ == "Baked"
    with pytest.raises(UsageError, match="a torch module"):
        adaptr.attach("model", adapter)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_an_adapter_goes_from_one_class_of_a_model_to_another(kind: str, tmp_path: Path) -> None:
    """Which head is on it is no matter of the places below: `AutoModel` has none, and other names for them."""
    tiny.MAKERS[kind]().save_pretrained(tmp_path / "base")
    bare = transformers.AutoModel.from_pretrained(tmp_path / "base").eval()
    headed = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base").eval()
    for made in (bare, headed):
        adapter = shaken(adaptr.create(made, "lora", ["attn.q"], r=2))
        adaptr.save(adapter, tmp_path / "a.safetensors", force=True)
        hidden = []
        for model in (bare, headed):
            with adaptr.attach(model, tmp_path / "a.safetensors"):
                hidden.append(model(IDS, output_hidden_states=True).hidden_states[-1])
        assert_close(*hidden)
        assert not torch.equal(hidden[0], bare(IDS).last_hidden_state)
    with pytest.raises(TargetNotFound, match="`head` names no parameter"):
        adaptr.create(bare, "lora", ["attn.q"], also="head")
