"""Tiny random models of several architectures, what they compute, and random values for PEFT's adapters of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
from adaptr.testing import shaken

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[5, 7, 11, 2, 9, 3], [4, 8, 1, 6, 10, 12]])
SMALL = {
    "vocab_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "initializer_range": 0.2,
}


def llama() -> nn.Module:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, max_position_embeddings=64)
    return transformers.LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=40, n_layer=2, n_head=4, n_embd=32, n_positions=64, initializer_range=0.2
    )
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    config = transformers.BertConfig(**SMALL, max_position_embeddings=64, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=40, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(config)


def gpt_oss() -> nn.Module:
    sizes = {**SMALL, "head_dim": 8, "layer_types": ["full_attention", "full_attention"]}
    config = transformers.GptOssConfig(**sizes, num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2)
    return transformers.GptOssForCausalLM(config)


class Convolutions(nn.Module):
    """One convolution of each dimension, then a linear layer, on the same values."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(3, 6, 3, stride=2, padding=1)
        self.two = nn.Conv2d(3, 5, (3, 2), stride=2, padding=1)
        self.three = nn.Conv3d(2, 4, 2, padding=1)
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.one(x[:, :3, :8].flatten(2)[..., :9])
        b = self.two(x[:, :3])
        c = self.three(x[:, :2, :4].unflatten(2, (2, 2)))
        return torch.cat([self.last(a.mean(-1)), b.flatten(1), c.flatten(1)], dim=1)


class SquareConvolution(Convolutions):
    """A convolution with a square kernel, then a linear layer."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(3, 5, 2, padding=1)
        self.last = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.conv(x[:, :3]).mean((-1, -2)))
        return y


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(getattr(model, "base_model", None), Convolutions) or "Conv" in repr(type(_bare(model))):
            torch.manual_seed(3)
            return model(torch.randn(2, 4, 8, 4))
        extra = {"decoder_input_ids": IDS[:, :4]} if model.config.is_encoder_decoder else {}
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS), **extra).logits[:, -IDS.shape[1] :]


def _bare(model: nn.Module) -> nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def scrambled(model: nn.Module) -> None:
    """Random values for everything that learns, so that nothing is the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or "prompt_encoder" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)


def read_and_written_back(
    peft: Any, build: Callable[[], nn.Module], cls: str, arguments: dict[str, Any], folder: Path, based: bool = False
) -> None:
    """What PEFT wrote does in adaptr what it does there, and again in PEFT once adaptr has written it, `based`: with
    the base.
    """
    theirs = peft.get_peft_model(made(build), getattr(peft, cls)(**arguments)).eval()
    scrambled(theirs)
    want = outputs(theirs)
    theirs.save_pretrained(folder / "peft")
    model = made(build)
    assert not torch.allclose(want, outputs(model), atol=1e-3), "the adapter changes nothing"
    adapter = adaptr.load(folder / "peft", base=model)
    with adaptr.attach(model, adapter):
        assert gap(outputs(model), want) <= 1e-5
    # and there and back, through a file
    adaptr.convert(folder / "peft", folder / "a.adaptr.safetensors", base=model)
    adaptr.convert(folder / "a.adaptr.safetensors", folder / "back", to="peft", base=model if based else None)
    again = peft.PeftModel.from_pretrained(made(build), folder / "back").eval()
    assert gap(outputs(again), want) <= 1e-5


def written_and_read_back(
    peft: Any, build: Callable[[], nn.Module], method: str, arguments: dict[str, Any], folder: Path
) -> None:
    """What adaptr wrote does in PEFT what it does here, and again once it is read."""
    model = made(build)
    fresh = adaptr.create(model, method, **arguments)
    adapter = shaken(fresh, 2, by=0.2)
    with adaptr.attach(model, adapter):
        want = outputs(model)
    assert not torch.allclose(want, outputs(model), atol=1e-3), "the adapter changes nothing"
    adaptr.save(adapter, folder / "a.adaptr.safetensors")
    adaptr.convert(folder / "a.adaptr.safetensors", folder / "peft", to="peft", base=model)
    theirs = peft.PeftModel.from_pretrained(made(build), folder / "peft").eval()
    assert gap(outputs(theirs), want) <= 1e-5
    again = adaptr.load(folder / "peft", base=model)
    with adaptr.attach(model, again):
        assert gap(outputs(model), want) <= 1e-5


def gap(found: torch.Tensor, want: torch.Tensor) -> float:
    return float((found - want).abs().max()) / max(1.0, float(want.abs().max()))
