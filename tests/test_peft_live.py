"""Live models of PEFT, and pipelines."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

import adaptr
import tiny
from adaptr.errors import UsageError
from adaptr.testing import shaken

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


def test_a_pipeline_stands_for_its_model() -> None:
    model = tiny.MAKERS["llama"]().eval()
    pipe = SimpleNamespace(model=model)
    adapter = shaken(adaptr.create(pipe, "lora", ["attn.q"], r=2))  # type: ignore[arg-type]
    before = model(IDS).logits
    with adaptr.attach(pipe, adapter):  # type: ignore[arg-type]
        assert not torch.equal(model(IDS).logits, before)
    with adaptr.train(pipe, adapter) as session:  # type: ignore[arg-type]
        assert list(session.parameters())
    with pytest.raises(UsageError, match="a torch module"):
        adaptr.attach("model", adapter)  # type: ignore[arg-type]
