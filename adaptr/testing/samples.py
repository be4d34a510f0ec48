"""What laws are tried on: a small model, adapters away from where they start, and what a method's table says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import WHOLE, Adapter, numel

if TYPE_CHECKING:
    from torch import Tensor, nn


def tiny_llama() -> nn.Module:
    """Two layers, width 32, two key/value heads for four query heads, no biases."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
        model: nn.Module = LlamaForCausalLM(config).eval()
        return model


def shaken(adapter: Adapter, seed: int = 1, by: float = 0.1) -> Adapter:
    """The adapter with noise on every tensor that trains."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    noise = {k: by * torch.randn(adapter.tensors[k].shape, generator=generator) for k in trained_keys(adapter)}
    return adapter.replace(tensors={k: t + noise[k] if k in noise else t for k, t in adapter.tensors.items()})


def trained_keys(adapter: Adapter) -> list[str]:
    """The keys of the tensors that train, in the order of the tensors."""
    methods = {name: plugins.method(part.method) for name, part in adapter.parts.items()}
    own = plugins.method(adapter.method)

    def trains(key: str) -> bool:
        if key.endswith(WHOLE):
            return True
        part, dot, name = key.rpartition(":")[2].partition(".")
        return own.trains_parts and methods[part].params[name].trains if dot else own.params[part].trains

    return [key for key in adapter.tensors if trains(key)]


def logits(output: Any) -> Tensor:
    """The tensor of an output that the laws compare."""
    import torch

    if isinstance(output, torch.Tensor):
        return output
    found: Tensor = output.logits if hasattr(output, "logits") else output[0]
    return found


def parts_of(adapter: Adapter) -> list[Adapter]:
    """A composite's children, or the adapter itself."""
    return [adapter.part(name) for name in adapter.parts] or [adapter]


def trained(adapter: Adapter) -> Iterator[Tensor]:
    """The tensors that methods train, those of parts included."""
    for one in parts_of(adapter):
        params = plugins.method(one.method).params
        for path in one.targets:
            yield from (tensor for name, tensor in one.at(path).items() if params[name].trains)


def count(adapter: Adapter) -> int:
    """The numbers that an adapter trains by its method's table; those that targets share count once; with whole
    parameters.
    """
    parts = [adapter.part(name) for name in adapter.parts] if plugins.method(adapter.method).trains_parts else []
    whole = numel(tuple(tensor.shape) for tensor in adapter.replaced.values())
    return whole + sum(_count(one) for one in [adapter, *parts])


def _count(adapter: Adapter) -> int:
    own = plugins.method(adapter.method)
    shapes = {own.key(t.path, n): shape for t in adapter.targets.values() for n, shape in own.shapes(t).items()}
    return numel(shape for key, shape in shapes.items() if own.params[key.rpartition(":")[2]].trains)
