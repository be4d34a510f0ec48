"""PEFT's ADAPTION_PROMPT: method `llama-adapter` with one gate a layer and no tanh, on the topmost layers.

PEFT puts what it adds through the output layer by itself, whose bias counts twice then: such layers are refused. On
GPT-2 it leaves out the output layer, which no adapter here does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr import targets as places
from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

#: What PEFT calls the attentions that it has this for.
ATTENTION = "self_attn"


class AdaptionPrompt(PeftType):
    name = "adaption-prompt"
    methods = ("llama-adapter",)
    slots = {"A": "adaption_prompt", "g": "adaption_gate"}
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {
            "tokens": fields_of.size(config, "adapter_len"),
            "layers": fields_of.size(config, "adapter_layers"),
            "gate": "layer",
            "activation": "none",
            "apart": True,
        }

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        if path.rpartition(".")[2] != ATTENTION:
            raise Unsupported(
                f"`{path}`: on GPT-2, PEFT adds an adaption prompt behind the output layer, as nothing here does",
                hint="train it here, with `llama-adapter`",
            )
        wanted = (1, values["tokens"], shapes["A"][-1])
        if shapes["A"] != wanted or shapes["g"] != (1,):
            raise ConfigConflict(
                f"`{path}`: `adaption_prompt` and `adaption_gate`",
                verb="have",
                got=f"shapes {shapes['A']} and {shapes['g']}",
                want=f"{wanted} and (1,)",
                hint=phrases.AGAIN,
            )
        config = {**values, "width": wanted[2], "heads": 1}
        if model is None:
            return Target(path, kinds.ATTENTION, (0, 0), config)
        return replace(places.resolve(model, path, {kinds.ATTENTION})[0], config=config)

    def absent(self, config: Mapping[str, Any], targets: frozenset[str]) -> list[str]:
        missing = fields_of.size(config, "adapter_layers") - len(targets)
        return [f"{missing} more of the `adapter_layers`"] if missing > 0 else []

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, (1, 1, 1) if name == "g" else shape[1:])

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        config = next(iter(adapter.targets.values())).config
        for path, target in adapter.targets.items():
            if (target.config["gate"], target.config["activation"]) != ("layer", "none"):
                raise Unsupported(
                    "PEFT's adaption prompts have one gate for each layer, without a tanh",
                    hint="train it with `gate` layer and `activation` none, or keep it in adaptr's own format",
                )
            if path.rpartition(".")[2] != ATTENTION or target.config["tokens"] != config["tokens"]:
                raise Unsupported(
                    f"`{path}`: PEFT has adaption prompts of one length, at attentions called `{ATTENTION}`",
                    hint=phrases.OWN,
                )
        if config["layers"] != len(adapter.targets):
            raise Unsupported("PEFT's adaption prompts are in the topmost layers alone", hint=phrases.OWN)
        return {
            "peft_type": self.peft,
            "adapter_len": config["tokens"],
            "adapter_layers": config["layers"],
            "target_modules": ATTENTION,
        }

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        return found.reshape((1,) if name == "g" else (1, *found.shape))
