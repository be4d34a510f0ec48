"""Version 2's linear layers, y = W (s x) + t: `ia3` over the inputs, and `scale-shift` of which only the shift is used.

Rows of queries and keys are in the order of Meta's rotary embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import rotary
from adaptr.foreign.pieces.module import Layer, Module, complete

if TYPE_CHECKING:
    from torch import Tensor

#: Its layers as transformers has them.
NAMES = {
    **{f"attention.w{letter}": f"self_attn.{letter}_proj" for letter in "qkvo"},
    "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj",
}  # fmt: skip
SCALE, SHIFT = "scale", "bias"


def read(module: Module) -> Iterator[Layer]:
    out, into = (module.shape(slot, (1,))[0] if module.has(slot) else 0 for slot in (SHIFT, SCALE))
    for method, slot, values in (("ia3", SCALE, {"side": "in"}), ("scale-shift", SHIFT, {"shift": "always"})):
        if module.has(slot):
            target = Target(module.path, kinds.LINEAR, (out, into), complete(method, values))
            target = placing.agreed(module.model, target)
            yield Layer(method, target, {"l": module.piece(SCALE, (into,))} if slot == SCALE else _shift(module, out))


def _shift(module: Module, out: int) -> dict[str, Piece]:
    import torch

    turned = _turned(module) if module.path.endswith(("q_proj", "k_proj")) else None
    return {"t": Piece(module.keys[SHIFT], (out,), then=turned), "s": Piece("", (out,), value=torch.ones(out))}


def _turned(module: Module) -> partial[Tensor]:
    """Its rows as transformers has them; its models have as many heads of keys as of queries."""
    known = placing.needed(module.model, module.path, "its rows are in an order that goes by the model's heads")
    config: Any = known.config
    heads = int(config.get_text_config().num_attention_heads)
    (out,) = module.shapes[SHIFT]
    module.require(SHIFT, not out % (2 * heads), f"rows of {heads} heads")
    return partial(rotary.halves, heads)
