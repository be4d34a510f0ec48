"""PEFT's PROMPT_TUNING: method `prompt`.

For encoder-decoder models PEFT stores twice the rows and uses the first half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import plugins
from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, phrases
from adaptr.families.prompt import require_in_front
from adaptr.foreign import same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys
from adaptr.foreign.peft.types import PeftType

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class PromptTuning(PeftType):
    name = "prompt-tuning"
    methods: ClassVar[tuple[str, ...]] = ("prompt",)
    prompt = True
    #: Whether a file may have more rows than tokens, as those for encoder-decoder models do.
    counted: ClassVar[bool] = True

    def own(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of adaptr's configuration beside the sizes."""
        return {"init": "normal"}

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        """The one target, the model itself."""
        key, shape = source.embeddings()
        tokens = fields_of.size(source.config, "num_virtual_tokens")
        rows = tokens * fields_of.size(source.config, "num_transformer_submodules", 1)
        width = fields_of.size(source.config, "token_dim", shape[1])
        if shape != (rows, width):
            raise phrases.misshapen(
                f"`{key}`", shape, (rows, width), ConfigConflict, by="by the configuration", hint=phrases.AGAIN
            )
        values = {"tokens": tokens, **({"rows": rows} if self.counted else {}), **self.own(source.config)}
        target = Target("", kinds.MODEL, (width,), fields_of.complete(self.methods[0], values))
        return Draft(self.methods[0], target.config, {"": target}, {":P": Piece(key, shape)})

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """The configuration fields that follow from the prompt."""
        (target,) = adapter.targets.values()
        require_in_front(adapter, "PEFT's are in front of what all words are embedded as")
        return {
            "peft_type": self.peft,
            "num_virtual_tokens": target.config["tokens"],
            "num_transformer_submodules": copies(adapter, target),
            "token_dim": target.shape[0],
        }

    def rows(self, adapter: Adapter) -> Adapter:
        """`adapter` with the rows that are written."""
        return plugins.method(adapter.method).materialised(adapter)

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """{adaptr's key: (PEFT's key, tensor)}."""
        (target,) = adapter.targets.values()
        P = same.at(self.rows(adapter), "")["P"]
        missing = copies(adapter, target) * target.config["tokens"] - P.shape[0]
        return {":P": (keys.PROMPT, P if missing <= 0 else P.tensor.repeat(2, 1))}


def copies(adapter: Adapter, target: Target) -> int:
    """How many times the rows of its tokens a file has."""
    stored = target.config.get("rows", target.config["tokens"]) // target.config["tokens"]
    return max(int(stored), 2 if keys.two_stacks(adapter.base.architecture) else 1)
