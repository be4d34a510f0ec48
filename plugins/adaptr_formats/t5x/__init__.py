"""T5X's prompts: an array of numpy's alone, (tokens, width), which goes in front of the embedded text.

`prompt-tuning` writes one beside each checkpoint (`numpy_checkpoints`), and its released prompts are such files, of
the encoder of T5 1.1. A checkpoint itself is read too: Flax's msgpack, and the folder of a zarr array for each
parameter; of all that is in it the prompt alone. An output that ends in `.msgpack` is written as Flax's. Nothing else
has a place in a file, of which base it is and where it comes from neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.adapter import Adapter, Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written, npz
from adaptr.foreign.seen import Seen
from adaptr.untrusted import opened
from adaptr_formats.t5x import chunked, packed

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adaptr.foreign.format import BaseModel

#: The file of a checkpoint, and how others of Flax's end.
CHECKPOINT, PACKED = "checkpoint", ".msgpack"
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
        """Also the array that is alone in a folder, a folder that is one, and that of a checkpoint."""
        if not seen.folder:
            return super().locate(seen) or (seen.path if _is_packed(seen) else None)
        if chunked.SETTINGS in seen.files:
            return seen.path / chunked.SETTINGS
        if CHECKPOINT in seen.files:
            return _in_checkpoint(seen.path)
        alone = len(seen.files) == 1 and min(seen.files).endswith(self.suffix)
        return super().locate(seen) or (super().locate(Seen(seen.path / min(seen.files))) if alone else None)

    def files(self, file: Path) -> tuple[Path, ...]:
        return chunked.files(file.parent) if file.name == chunked.SETTINGS else (file,)

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.checkpoint.skeleton import skeleton
        from adaptr.foreign import placing, saving
        from adaptr.foreign.draft import Piece
        from adaptr.foreign.pieces import assembling
        from adaptr.foreign.pieces.module import Layer, complete

        file = self.weights(path)
        key, tensors = _contents(file)
        shape = tuple(tensors[key].shape)
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
            if out.suffix == PACKED:
                file.write(packed.written(P.contiguous()))
            else:
                np.lib.format.write_array(file, P.contiguous().numpy(), (1, 0), allow_pickle=False)
        return Written(out, {":P": npz.NAME}, notes=(_NOTE,))


def _is_packed(seen: Seen) -> bool:
    named = seen.path.suffix == PACKED or seen.path.name.startswith(CHECKPOINT)
    return named and packed.is_map(seen.first) and packed.holds_prompt(seen.path)


def _in_checkpoint(folder: Path) -> Path | None:
    """The array of a prompt beside a checkpoint's file, or that file where the prompt is in it."""
    apart = sorted(folder.glob(f"*prompt.prompt.prompt/{chunked.SETTINGS}"))
    known = [one for one in apart if not one.parent.name.startswith("state.")]
    file = folder / CHECKPOINT
    return known[0] if len(known) == 1 else file if not known and _is_packed(Seen(file)) else None


def _contents(file: Path) -> tuple[str, Mapping[str, Tensor]]:
    """The name of a file's only prompt, and its tensors. Raises `Unsupported` for several."""
    from adaptr.foreign.stored import contents

    if file.name == chunked.SETTINGS:
        return npz.NAME, {npz.NAME: chunked.array(file.parent)}
    with opened(file) as stream:
        found = packed.prompts(file) if packed.is_map(stream.read(1)) else contents(file)[0]
    if len(found) != 1:
        raise Unsupported(
            f"`{file}` holds {len(found)} prompts: {phrases.listed(sorted(found))}",
            hint="`extract_variable` of prompt-tuning takes one out",
        )
    return next(iter(found)), found


def _require_prompt(adapter: Adapter) -> None:
    from adaptr.families.prompt import require_in_front

    if adapter.method != "prompt":
        raise Unsupported(
            f"T5X has no file of `{adapter.method}` alone; it holds prompt",
            hint="`adaptr convert --method prompt` makes one of what is a prompt in the end",
        )
    require_in_front(adapter, "T5X's are in front of what all words are embedded as")
