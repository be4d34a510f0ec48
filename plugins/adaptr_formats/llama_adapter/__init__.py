"""LLaMA-Adapter's own files: `adapter_query.weight` (layers * tokens, width), the prompts of the topmost layers,
and `layers.N.attention.gate` (1, heads, 1, 1), of its first release (1). Version 2 has `wq_scale` (in) before and
`wq_bias` (out) behind each linear layer, and the weights of norms.

How many tokens a layer has is told by the gates: those of layers without a prompt are never trained, so that they are
zero. A gate of heads is used through a tanh, as its training has it (its own `llama/model.py` leaves that out), the
gate of its first release as it is. Of version 2 for pictures the prompts get their features added, which adaptr has no
method for. No genuine file was at hand: read as the code of its repository says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


class LlamaAdapter(Format):
    name = "llama-adapter"
    tool = "LLaMA-Adapter"
    called = "a LLaMA-Adapter"
    folder = False
    marks = Marks(
        suffixes=(".pth",),
        keys=(r"adapter_query\.weight", r"layers\.\d+\.(attention|feed_forward)\.w[qkvo123]_(scale|bias)"),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.llama_adapter.reading import read

        return read(self.weights(path), base)
