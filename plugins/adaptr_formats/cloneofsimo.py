"""cloneofsimo's lora of Stable Diffusion 1 and 2: pairs by number, in the order in which diffusers had modules then.

Numbers say nothing, so the shapes must be those of that order: U-Net blocks on the way down, up, and the middle one
last, each with its attention to itself, the gate of its feed-forward (where it is trained) and its attention to the
text; in the text encoder k, v, q and out of each layer. There are no alphas: the scale is 1.

A `.pt` file is a list of up, down, up, down ... in the same order, for the U-Net and the text encoder in files of their
own: whose it is must show from the shapes too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptr.errors import ConfigConflict, TensorUnknown, phrases, shown
from adaptr.foreign import NOTHING, Format, Marks, Supplied
from adaptr.foreign.seen import LIST, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

    Shapes = Mapping[str, tuple[int, ...]]

_KEY = re.compile(r"(?P<part>unet|text_encoder):(?P<number>\d{1,4}):(?P<side>up|down)")
#: The blocks of the U-Net in their order, with the level of each: there are three widths.
BLOCKS: Sequence[tuple[str, int]] = (
    *((f"down_blocks.{level}.attentions.{n}", level) for level in range(3) for n in range(2)),
    *((f"up_blocks.{3 - level}.attentions.{n}", level) for level in (2, 1, 0) for n in range(3)),
    ("mid_block.attentions.0", 2),
)
#: Its trained layers in their order, each with (rows, columns) in widths, 0 being the text's.
LAYERS: Sequence[tuple[str, int, int]] = (
    *((f"attn1.{name}", 1, 1) for name in ("to_q", "to_k", "to_v", "to_out.0")),
    ("ff.net.0.proj", 8, 1),
    ("attn2.to_q", 1, 1),
    ("attn2.to_k", 1, 0),
    ("attn2.to_v", 1, 0),
    ("attn2.to_out.0", 1, 1),
)
GATED = "ff.net.0.proj"
TEXT = ("k_proj", "v_proj", "q_proj", "out_proj")


class Cloneofsimo(Format):
    name = "cloneofsimo"
    tool = "cloneofsimo's lora"
    called = "a cloneofsimo LoRA"
    folder = False
    marks = Marks(suffixes=(".safetensors",), keys=(r"(unet|text_encoder):\d+:(up|down)",))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.pieces import dotted

        return dotted.named(self.weights(path), base, self.name, _names, supplied)

    def locate(self, seen: Seen) -> Path | None:
        return seen.path if seen.container == LIST and seen.path.suffix == ".pt" else super().locate(seen)


def _names(shapes: Shapes) -> dict[str, str]:
    """{key: the name that its tensor has by its module's path}. Raises `ConfigConflict` for another order."""
    return _listed(shapes) if shapes and all(key.isdecimal() for key in shapes) else _numbered(shapes)


def _listed(shapes: Shapes) -> dict[str, str]:
    """The same of a list. Raises `ConfigConflict` unless its shapes are those of one of the two networks."""
    found = []
    for part in ("unet", "text_encoder"):
        keys = {f"{part}:{int(key) // 2}:{('up', 'down')[int(key) % 2]}": key for key in shapes}
        try:
            named = _numbered({ours: shapes[key] for ours, key in keys.items()})
        except ConfigConflict:
            continue
        found.append({keys[ours]: name for ours, name in named.items()})
    if len(found) != 1:
        raise ConfigConflict(
            f"the list of {len(shapes)} tensors",
            verb="has",
            got="shapes of both of them" if found else "other shapes",
            want="those of the pairs of a U-Net of Stable Diffusion 1 or 2, or of its text encoder",
            hint="convert it with the tool that wrote it",
        )
    return found[0]


def _numbered(shapes: Shapes) -> dict[str, str]:
    numbers: dict[str, set[int]] = {}
    for key in shapes:
        found = _KEY.fullmatch(key)
        if found is None:
            raise TensorUnknown(f"`{shown(key)}` is no tensor of a cloneofsimo LoRA", hint=phrases.AGAIN)
        numbers.setdefault(found["part"], set()).add(int(found["number"]))
    paths = {part: _paths(part, sorted(own), shapes) for part, own in numbers.items()}
    return {
        f"{part}:{number}:{side}": f"{part}.{path}.lora.{side}.weight"
        for part, named in paths.items()
        for number, path in enumerate(named)
        for side in ("up", "down")
    }


def _paths(part: str, numbers: Sequence[int], shapes: Shapes) -> list[str]:
    if part == "unet":
        layers = LAYERS if len(numbers) == len(BLOCKS) * len(LAYERS) else [one for one in LAYERS if one[0] != GATED]
        _require_order(part, numbers, len(BLOCKS) * len(layers))
        _require_shapes(layers, shapes)
        return [f"{block}.transformer_blocks.0.{name}" for block, _ in BLOCKS for name, _, _ in layers]
    _require_order(part, numbers, len(numbers) // len(TEXT) * len(TEXT))
    _require_square(numbers, shapes)
    layers_of_text = range(len(numbers) // len(TEXT))
    return [f"text_model.encoder.layers.{n}.self_attn.{name}" for n in layers_of_text for name in TEXT]


def _require_order(part: str, numbers: Sequence[int], count: int) -> None:
    if not numbers or list(numbers) != list(range(count)):
        raise ConfigConflict(
            f"the pairs of `{part}`",
            verb="are",
            got=f"{len(numbers)}",
            want="those of all attention layers of Stable Diffusion 1 or 2, numbered from 0",
            hint="convert it with the tool that wrote it",
        )


def _require_shapes(layers: Sequence[tuple[str, int, int]], shapes: Shapes) -> None:
    """Raises `ConfigConflict` unless widths are those of the levels: what tells that the order is the known one."""
    widths: dict[int, int] = {}
    texts = set()
    for number, (level, name, rows, columns) in enumerate(_expected(layers)):
        up, down = (shapes.get(f"unet:{number}:{side}", ()) for side in ("up", "down"))
        width = widths.setdefault(level, down[1] if len(down) == 2 else 0)
        fits = len(up) == len(down) == 2 and up[0] == rows * width and (not columns or down[1] == width)
        texts |= set() if columns or not fits else {down[1]}
        if not fits or len(texts) > 1:
            raise ConfigConflict(
                f"`unet:{number}`",
                verb="is",
                got=f"{tuple(up)} by {tuple(down)}",
                want=f"`{name}` of width {width}, as it is in the order that the tool had",
                hint=phrases.AGAIN,
            )


def _require_square(numbers: Sequence[int], shapes: Shapes) -> None:
    """Raises `ConfigConflict` unless all layers of a text encoder have its one width on both sides."""
    width = (shapes.get("text_encoder:0:up") or (0,))[0]
    for number in numbers:
        up, down = (shapes.get(f"text_encoder:{number}:{side}", ()) for side in ("up", "down"))
        if len(up) != 2 or len(down) != 2 or up[0] != width or down[1] != width:
            raise ConfigConflict(
                f"`text_encoder:{number}`", verb="is", got=f"{up} by {down}", want=f"{width} wide", hint=phrases.AGAIN
            )


def _expected(layers: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, str, int, int]]:
    for _, level in BLOCKS:
        for name, rows, columns in layers:
            yield level, name, rows, columns
