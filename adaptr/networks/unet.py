"""The U-Net of Stable Diffusion 1, 2 and XL: diffusers' names, and those of CompVis (LDM), which number all blocks.

Level i has two layers on the way down, three on the way up, and what changes the size behind them; LDM's number of the
latter depends on whether the level attends, so both are told.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from adaptr.networks.table import Spelling

LEVELS = 4
_ALONE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
#: In a block of convolutions.
_INNER = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


@functools.cache
def blocks() -> Mapping[str, tuple[str, ...]]:
    """Blocks of convolutions and of attention, and changes of size: diffusers' name to what LDM may call it."""
    found: dict[str, tuple[str, ...]] = {
        "mid_block.resnets.0": ("middle_block.0",),
        "mid_block.attentions.0": ("middle_block.1",),
        "mid_block.resnets.1": ("middle_block.2",),
    }
    for level in range(LEVELS):
        for layer in range(3):
            down, up = f"input_blocks.{3 * level + layer + 1}", f"output_blocks.{3 * level + layer}"
            if layer < 2:
                found[f"down_blocks.{level}.resnets.{layer}"] = (f"{down}.0",)
                found[f"down_blocks.{level}.attentions.{layer}"] = (f"{down}.1",)
            found[f"up_blocks.{level}.resnets.{layer}"] = (f"{up}.0",)
            found[f"up_blocks.{level}.attentions.{layer}"] = (f"{up}.1",)
        found[f"down_blocks.{level}.downsamplers.0.conv"] = (f"input_blocks.{3 * level + 3}.0.op",)
        sizes = tuple(f"output_blocks.{3 * level + 2}.{place}.conv" for place in (1, 2))
        found[f"up_blocks.{level}.upsamplers.0.conv"] = sizes
    return found


@functools.cache
def _back() -> Mapping[str, str]:
    alone = {ldm: name for name, ldm in _ALONE.items()}
    return {**{ldm: name for name, many in blocks().items() for ldm in many}, **alone}


def others(path: str) -> Iterator[Spelling]:
    """What the other of the two calls a module."""
    for name in (*_to_ldm(path), *_to_diffusers(path)):
        yield Spelling((name,))


def _to_ldm(path: str) -> Iterator[str]:
    if path in _ALONE:
        yield _ALONE[path]
    for block, inner in _cuts(path):
        for ldm in blocks().get(block, ()):
            if ".resnets." not in block:
                yield f"{ldm}{inner}"
            elif inner[1:] in _INNER:
                yield f"{ldm}.{_INNER[inner[1:]]}"


def _to_diffusers(path: str) -> Iterator[str]:
    inside = {ldm: name for name, ldm in _INNER.items()}
    for block, inner in _cuts(path):
        name = _back().get(block, "")
        if name and ".resnets." not in name:
            yield f"{name}{inner}"
        elif name and inner[1:] in inside:
            yield f"{name}.{inside[inner[1:]]}"


def _cuts(path: str) -> Iterator[tuple[str, str]]:
    """A path cut in two behind its first parts, the longest first; what is behind begins with its dot."""
    parts = path.split(".")
    for count in range(min(len(parts), 6), 0, -1):
        start = ".".join(parts[:count])
        yield start, path[len(start) :]
