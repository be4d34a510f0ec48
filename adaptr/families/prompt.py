"""Prompt methods: virtual tokens in front of the text, or virtual keys and values in front of every attention.

Masks, positions, labels and caches are the hosts' business (`adaptr.host.prompt`, `adaptr.host.attention`); an author
supplies `params` and either `prompt(p, cfg)` or `keys_values(p, cfg)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.errors import Unsupported
from adaptr.families.base import Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.host import Handle


class Tokens(Method):
    """What soft prompts and prefixes share: no weight holds them, and they are there or not."""

    family: ClassVar[str] = "prompt"
    unmergeable: ClassVar[str] = "tokens"
    identity: ClassVar[bool] = False

    def apply(self, model: nn.Module, adapter: Adapter, weight: float) -> Handle:
        if weight != 1.0:
            raise Unsupported(
                f"`{self.name}`: virtual tokens have no strength, so the weight must be 1, not {weight:g}"
            )
        return super().apply(model, adapter, weight)


class SoftPrompt(Tokens):
    """Virtual tokens at the embeddings: a model-level target."""

    kinds: ClassVar[frozenset[str]] = frozenset({"model"})
    targets: ClassVar[tuple[str, ...]] = ("model",)
    possible: ClassVar[str] = "keep it attached; concatenate it with another prompt"

    def prompt(self, p: Mapping[str, Tensor], cfg: Any) -> Tensor:
        """The embeddings (tokens, d) that go in front."""
        raise NotImplementedError


class Prefix(Tokens):
    """Virtual keys and values: a target per attention module."""

    kinds: ClassVar[frozenset[str]] = frozenset({"attention"})
    targets: ClassVar[tuple[str, ...]] = ("attention",)
    possible: ClassVar[str] = "keep it attached; concatenate it with another prefix"

    def keys_values(self, p: Mapping[str, Tensor], cfg: Any) -> tuple[Tensor, Tensor]:
        """Keys and values (h, tokens, d) that go in front, keys as after the position encoding."""
        raise NotImplementedError
