"""Strengths by block of Stable Diffusion's U-Net, as the community writes them: a number for the text encoders (BASE),
and one for each block on the way in (IN), in the middle (M) and on the way out (OUT), numbered as CompVis does.

Presets are those of sd-webui-lora-block-weight.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from adaptr.errors import UsageError, shown
from adaptr.networks.unet import blocks

#: The blocks that a list of so many numbers is for: those with attention of SD 1 and XL, and all of them.
_IN = [f"IN{number:02}" for number in range(12)]
_OUT = [f"OUT{number:02}" for number in range(12)]
LISTS: dict[int, list[str]] = {
    17: ["BASE", *(_IN[n] for n in (1, 2, 4, 5, 7, 8)), "M00", *_OUT[3:]],
    26: ["BASE", *_IN, "M00", *_OUT],
    12: ["BASE", *(_IN[n] for n in (4, 5, 7, 8)), "M00", *_OUT[:6]],
    20: ["BASE", *_IN[:9], "M00", *_OUT[:9]],
}
PRESETS: dict[str, str] = {
    "NONE": "00000000000000000",
    "ALL": "11111111111111111",
    "INS": "11110000000000000",
    "IND": "10001110000000000",
    "INALL": "11111110000000000",
    "MIDD": "10001111111100000",
    "OUTD": "10000000111100000",
    "OUTS": "10000000000011111",
    "OUTALL": "10000000111111111",
}


def block_weights(said: str | Sequence[float]) -> dict[str, float]:
    """{pattern of paths: strength} of a preset's name, or of 12, 17, 20 or 26 numbers with commas or as a list.

    Blocks that the list has no number for have the strength 0. Raises `UsageError` for anything else.
    """
    numbers = _numbers(said)
    names = LISTS.get(len(numbers))
    if names is None:
        raise UsageError(
            "weights by block", got=f"{len(numbers)} numbers", want="12 or 20 (SDXL), or 17 or 26 (SD 1 and 2)"
        )
    by_name = dict(zip(names, numbers, strict=True))
    found = {"unet.*": 0.0, "text_encoder*": by_name["BASE"]}
    for name, pattern in _patterns():
        found[pattern] = by_name.get(name, 0.0)
    return found


def is_of_blocks(pattern: str) -> bool:
    """Whether a pattern is one of those for all blocks, of which an adapter has some."""
    return pattern in _all()


@functools.cache
def _all() -> frozenset[str]:
    return frozenset(block_weights("ALL"))


def _numbers(said: str | Sequence[float]) -> list[float]:
    if not isinstance(said, str):
        return [float(one) for one in said]
    if said.upper() in PRESETS:
        return [float(digit) for digit in PRESETS[said.upper()]]
    try:
        return [float(one) for one in said.split(",")]
    except ValueError:
        raise UsageError(
            f"`{shown(said)}`", want=f"one of {', '.join(PRESETS)}, or numbers with commas between them"
        ) from None


def _patterns() -> Iterator[tuple[str, str]]:
    """(name of a block, what the paths in it look like), by CompVis' names and by diffusers'."""
    for number, name in enumerate(_IN):
        yield name, f"unet.input_blocks.{number}.*"
    yield from (("M00", "unet.middle_block.*"), ("M00", "unet.mid_block.*"))
    for number, name in enumerate(_OUT):
        yield name, f"unet.output_blocks.{number}.*"
    yield "IN00", "unet.conv_in"
    for diffusers, many in blocks().items():
        side, place, *_ = many[0].split(".")
        name = {"input_blocks": f"IN{int(place):02}", "output_blocks": f"OUT{int(place):02}"}.get(side, "M00")
        yield name, f"unet.{diffusers}" if diffusers.endswith(".conv") else f"unet.{diffusers}.*"
