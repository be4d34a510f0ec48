"""PEFT's PREFIX_TUNING: method `prefix`, trained with shifted positions. One tensor (tokens, layers*2*heads*width),
keys and values alternating by layer.

The file numbers layers and does not name modules. With a base the targets are its attention modules; without, they are
`attention.0`, `attention.1` ..., which attaching resolves (`adaptr.families.prompt`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import plugins
from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys
from adaptr.foreign.peft.types import PeftType

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class PrefixTuning(PeftType):
    name = "prefix-tuning"
    methods: ClassVar[tuple[str, ...]] = ("prefix", "p-tuning-v2")
    open = prompt = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        """A target a layer."""
        key, shape = source.embeddings()
        tokens = fields_of.size(source.config, "num_virtual_tokens")
        layers = fields_of.size(source.config, "num_layers")
        heads = fields_of.size(source.config, "num_attention_heads")
        width, left = divmod(fields_of.size(source.config, "token_dim"), heads)
        if left or shape != (tokens, layers * 2 * heads * width):
            raise phrases.misshapen(
                f"`{key}`",
                shape,
                (tokens, layers * 2 * heads * width),
                ConfigConflict,
                by=f"by {tokens} tokens, {layers} layers, {heads} heads of width {width}",
                hint=phrases.AGAIN,
            )
        said = {"tokens": tokens, "position_offset": "shift", **self.own(source.config)}
        values = fields_of.complete(self.methods[0], said)
        targets = [Target(f"attention.{n}", kinds.ATTENTION, (heads, width), values) for n in range(layers)]
        pieces = {
            f"{target.path}:{name}": Piece(
                key, (heads, tokens, width), (tokens, 2 * layers, heads, width), 2 * n + side, (1, 0, 2)
            )
            for n, target in enumerate(targets)
            for side, name in enumerate("KV")
        }
        return Draft(self.methods[0], values, {t.path: t for t in targets}, pieces)

    def own(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of adaptr's configuration beside sizes and positions."""
        return {}

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """The configuration fields that follow from the targets."""
        heads, width, tokens = _sizes(adapter)
        kept = adapter.foreign.get("peft", {}).get("config", {}).get("num_transformer_submodules")
        return {
            "peft_type": self.peft,
            "num_virtual_tokens": tokens,
            "num_layers": len(adapter.targets),
            "num_attention_heads": heads,
            "token_dim": heads * width,
            "num_transformer_submodules": kept or 1,
            "prefix_projection": False,
        }

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """{adaptr's key: (PEFT's key, tensor)}: all keys lead to one tensor."""
        import torch

        adapter = plugins.method(adapter.method).materialised(adapter)
        names = [f"{path}:{side}" for path in placing.ordered(adapter.targets) for side in "KV"]
        stacked = torch.stack([adapter.at(name[:-2])[name[-1]] for name in names])
        whole = stacked.permute(2, 0, 1, 3).flatten(1)
        return dict.fromkeys(names, (keys.PROMPT, whole))


def _sizes(adapter: Adapter) -> tuple[int, int, int]:
    found = {(*t.shape, t.config["tokens"]) for t in adapter.targets.values()}
    if len(found) > 1:
        raise Unsupported(
            "PEFT's prefixes have the same heads and tokens in every layer, and this adapter's differ", hint=phrases.OWN
        )
    if any(t.config["position_offset"] != "shift" for t in adapter.targets.values()):
        raise Unsupported(
            "PEFT shifts the text's positions behind a prefix, and this prefix was trained without "
            "(`position_offset` none)",
            hint=phrases.OWN,
        )
    known = "peft" in adapter.foreign
    if keys.two_stacks(adapter.base.architecture) and not known:
        raise Unsupported(
            "PEFT gives prefixes to half of a decoder's layers in encoder-decoder models, not to all attentions",
            hint=phrases.OWN,
        )
    heads, width, tokens = found.pop()
    return heads, width, tokens
