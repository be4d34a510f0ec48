"""PEFT's VBLORA: method `vblora`, with all logits. Files of the largest logits alone lack what training needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.foreign.peft.source import Source


class VBLoRA(PeftType):
    name = "vblora"
    methods = ("vblora",)
    slots = {"A": "vblora_logits_A", "B": "vblora_logits_B"}
    common = {"bank": "vblora_vector_bank"}
    table = {
        "r": Field("r", int, 4, called="ranks"),
        "h": Field("num_vectors", int, 256),
        "v": Field("vector_length", int, 256),
        "k": Field("topk", int, 2, called="numbers of vectors"),
        "dropout": Field("vblora_dropout", default=0.0, called="dropout rates"),
    }
    refused = {"save_only_topk_weights": "the file has the largest weights alone, which is not what was trained"}
    turns = open = True

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        A, B, bank = shapes["A"], shapes["B"], shapes["bank"]
        if len(A) != 3 or len(B) != 3 or bank != (values["h"], values["v"]):
            raise ConfigConflict(
                f"`{path}`: the logits and the bank",
                verb="have",
                got=f"shapes {A}, {B} and {bank}",
                want=f"a bank of {values['h']} by {values['v']}, and logits of three axes",
                hint=phrases.AGAIN,
            )
        v = values["v"]
        return placing.agreed(model, Target(path, kinds.LINEAR, (B[0] * v, A[1] * v), values))
