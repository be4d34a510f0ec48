"""The Open Model Initiative's names of LoRA, in which OneTrainer kept its own copies from March 2025 to July 2026: the
modules of published checkpoints, with q, k, v and what is joined with them (`qkv.0`, `linear1.3`) each on their own.

Text encoders are `clip_l`, `clip_g` and `t5`, by transformers' names. Alphas are tensors. Modulations of a scale and a
shift have the shift first, as published checkpoints do. Sources: omi_model_standards 16e78ee, OneTrainer 8fd97dc.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptr.errors import ConfigMissing, TargetNotFound, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

#: First parts of paths in published U-Nets and transformers, and in the text encoders.
STARTS = (
    r"(unet\.(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)"
    r"|transformer\.(double_blocks|single_blocks|joint_blocks|final_layer|(img|txt|time|vector|guidance)_in"
    r"|[ty]_embedder|x_embedder\.proj)|clip_[lg]|t5)"
)
_KEY = re.compile(r"(?P<path>.+)\.(?P<slot>lora_(?:down|up)\.weight|alpha|dora_scale)")
_PART = re.compile(r"(?P<path>.+\.(?:qkv|linear1))\.(?P<number>\d)")
_CLIP = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
_JOINT = re.compile(r"transformer\.joint_blocks\.(\d+)\.")
_TURNED = re.compile(r"transformer\.(?:final_layer|joint_blocks\.(?P<block>\d+)\.context_block)\.adaLN_modulation\.1\.")


class Omi(Format):
    name = "omi"
    tool = "the Open Model Initiative's names"
    called = "an OMI LoRA"
    folder = False
    asks = frozenset({"alpha", "scale"})
    marks = Marks(suffixes=(".safetensors",), keys=(rf"{STARTS}\..*\.lora_(down|up)\.weight",))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.pieces import dotted

        file = self.weights(path)
        return _turned(dotted.named(file, base, self.name, _names, supplied, None))


def _names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """{key: the name that its tensor has by its module's path in a pipeline}."""
    found = {key: _KEY.fullmatch(key) for key in shapes}
    strange = next((key for key, match in found.items() if match is None), "")
    if strange:
        raise TargetNotFound(f"`{shown(strange)}` is no tensor of an OMI LoRA", hint=phrases.AGAIN)
    paths = {match["path"] for match in found.values() if match}
    named = {path: _path(path, paths) for path in paths}
    return {key: f"{named[match['path']]}.{match['slot']}" for key, match in found.items() if match}


def _path(path: str, paths: Collection[str]) -> str:
    component, _, rest = path.partition(".")
    if component == "unet" or path == "transformer.context_embedder":
        return path
    if component == "transformer":
        return _transformer(path)
    if component == "t5":
        return f"{_of_t5(paths)}.{rest}"
    if component not in _CLIP:
        raise TargetNotFound(f"`{shown(path)}` begins with no network that OMI names", hint=phrases.AGAIN)
    return f"{_CLIP[component]}.{rest}"


def _of_t5(paths: Collection[str]) -> str:
    """What a pipeline calls its T5: it is Flux's second text encoder, and the third of Stable Diffusion 3."""
    if any(path.startswith(("transformer.joint_blocks.", "clip_g.")) for path in paths):
        return "text_encoder_3"
    if any(path.startswith(("transformer.double_blocks.", "transformer.single_blocks.")) for path in paths):
        return "text_encoder_2"
    raise ConfigMissing(
        "the file has layers of a T5 and none of a transformer, so which pipeline's it is, is not known",
        hint="take one that was trained with its transformer, or convert it with OneTrainer",
    )


def _transformer(path: str) -> str:
    """diffusers' name for a module of Flux or Stable Diffusion 3."""
    from adaptr.networks import spellings

    part = _PART.fullmatch(path)
    asked = part["path"] if part else path.replace("transformer.img_in.proj", "transformer.img_in")
    other = next(spellings(asked), None)
    own = other.paths if other is not None and other.paths[0].startswith("transformer.") else ()
    number = int(part["number"]) if part else 0
    if len(own) <= number or (part is None and len(own) > 1):
        raise TargetNotFound(
            f"`{shown(path)}` is no module that OMI has in Flux or Stable Diffusion 3",
            hint="convert it with the tool that wrote it",
        )
    return own[number]


def _turned(adapter: Adapter) -> Adapter:
    """With the rows of scale and shift as diffusers has them. OneTrainer turns `lora_up` alone, and of the contexts in
    Stable Diffusion 3 that of a block which no other follows in the file, whatever it is.
    """
    from adaptr.foreign.draft import Pieces

    if not isinstance(adapter.tensors, Pieces):
        return adapter
    pieces = adapter.tensors.pieces
    sources = {key.rpartition(":")[0]: _TURNED.match(piece.source) for key, piece in pieces.items()}
    found = {path: match["block"] for path, match in sources.items() if match}
    blocks = {block[1] for piece in pieces.values() if (block := _JOINT.match(piece.source))}
    turned = {path for path, block in found.items() if block is None or _is_last(block, blocks)}
    for path in found:
        target = adapter.targets.get(path)
        if target is None or adapter.method != "lora" or (target.shape[0] == 2 * target.shape[1]) != (path in turned):
            raise Unsupported(
                f"`{path}` has its scale and shift in an order that is not certain",
                hint="OneTrainer, which wrote it, turns the last block of a file, whatever is in it: convert it there",
            )
    swapped = {f"{path}:B": replace(pieces[f"{path}:B"], then=_swapped) for path in turned}
    return adapter.replace(tensors=Pieces(adapter.tensors.tensors, {**pieces, **swapped})) if turned else adapter


def _is_last(block: str, blocks: Collection[str]) -> bool:
    """Whether OneTrainer takes a block for the last: no number of a block begins with the next one."""
    return not any(other.startswith(str(int(block) + 1)) for other in blocks)


def _swapped(rows: Tensor) -> Tensor:
    import torch

    return torch.cat(rows.chunk(2)[::-1])
