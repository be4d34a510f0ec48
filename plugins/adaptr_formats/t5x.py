"""T5X's prompts: an array of numpy's alone, (tokens, width), which goes in front of the embedded text.

`prompt-tuning` writes one beside each checkpoint (`numpy_checkpoints`), and its released prompts are such files, of
the encoder of T5 1.1. What is in a checkpoint alone its `extract_variable` takes out. Nothing else has a place in the
file, of which base it is and where it comes from neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.adapter import Adapter, Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written, npz
from adaptr.foreign.seen import Seen

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.foreign.format import BaseModel

#: What numpy's dtypes have no form of.
_WIDER = {"torch.bfloat16": "float32"}
_NOTE = "the file says neither of which base it is nor where it comes from: keep adaptr's own beside it"


class T5x(Format):
    name = "t5x"
    tool = "T5X"
    called = "a prompt of T5X"
    marks = Marks(files=("encoder.prompt.prompt.prompt",), first=(npz.ARRAY,))
    folder = False
    suffix = ".npy"

    def locate(self, seen: Seen) -> Path | None:
        """Also the array that is alone in a folder."""
        found = super().locate(seen)
        if found is None and len(seen.files) == 1 and (name := min(seen.files)).endswith(self.suffix):
            return super().locate(Seen(seen.path / name))
        return found

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.checkpoint.skeleton import skeleton
        from adaptr.foreign import placing, saving
        from adaptr.foreign.draft import Piece
        from adaptr.foreign.pieces import assembling
        from adaptr.foreign.pieces.module import Layer, complete
        from adaptr.foreign.stored import contents

        file = self.weights(path)
        tensors, shapes, _ = contents(file)
        ((key, shape),) = shapes.items()
        if len(shape) != 2 or 0 in shape or not tensors[key].is_floating_point():
            raise ConfigConflict(
                f"`{file}`",
                verb="holds",
                got=f"{tensors[key].dtype} of shape {shape}",
                want="a prompt, (tokens, width) of floats",
                hint=phrases.AGAIN,
            )
        tokens, width = shape
        values = complete("prompt", {"tokens": tokens, "rows": tokens, "init": "normal"})
        target = placing.output(None if base is None else skeleton(base), Target("", kinds.MODEL, (width,), values))
        layer = Layer("prompt", target, {"P": Piece(key, shape)})
        return assembling.adapter([layer], tensors, str(file), saving.told({}))

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr.foreign import saving

        _require_prompt(adapter)
        wider = any(str(tensor.dtype) in _WIDER for tensor in adapter.tensors.values())
        return [
            *saving.lost(adapter),
            *saving.untold(adapter),
            *(["the precision of bf16, which becomes fp32"] if wider else []),
        ]

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        import numpy as np

        from adaptr.files import replacing
        from adaptr.foreign import saving

        _require_prompt(adapter)
        P = saving.plain(adapter).at("")["P"][: adapter.config["tokens"]]
        P = P.float() if str(P.dtype) in _WIDER else P
        with replacing(out, force) as file:
            np.lib.format.write_array(file, P.contiguous().numpy(), (1, 0), allow_pickle=False)
        return Written(out, {":P": npz.NAME}, notes=(_NOTE,))


def _require_prompt(adapter: Adapter) -> None:
    from adaptr.families.prompt import require_in_front

    if adapter.method != "prompt":
        raise Unsupported(
            f"T5X has no file of `{adapter.method}` alone; it holds prompt",
            hint="`adaptr convert --method prompt` makes one of what is a prompt in the end",
        )
    require_in_front(adapter, "T5X's are in front of what all words are embedded as")
