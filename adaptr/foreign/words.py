"""Learned words (textual inversion): vectors of an embedding under names of their own, which are no part of an adapter.

cloneofsimo and diffusers call them by their token (`<s1>`), A1111 `emb_params`, of SDXL `clip_l` and `clip_g`;
`bundle_emb.<word>.` is before those in a LoRA of kohya's names or the Open Model Initiative's. Gal et al. 2022,
arXiv:2208.01618.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from adaptr.errors import WeightsIgnored, shown
from adaptr.foreign.seen import Seen

#: What files of words alone call their tensors.
ALONE = r"<[^<>]+>|string_to_param|emb_params|clip_[lg]"
_BUNDLED = r"bundle_emb\..+\.(?:[^.]+|string_to_param\.\*)"
_WORD = re.compile(rf"{ALONE}|{_BUNDLED}", re.DOTALL)


def is_word(key: str) -> bool:
    """Whether a tensor of that name is of a learned word."""
    return _WORD.fullmatch(key) is not None


def inside(file: Path) -> tuple[str, ...]:
    """The tensors of learned words in a file, by the names in its header."""
    return tuple(sorted(key for key in Seen(file).names if is_word(key)))


def without(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The other tensors of a file, with a warning that says which words there are, and how long their vectors."""
    found = [f"`{shown(key)}` {shape}" for key, shape in shapes.items() if is_word(key)]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        warnings.warn(
            f"`{file.name}` holds learned words too ({', '.join(found[:3])}{more}); they are not used",
            WeightsIgnored,
            stacklevel=4,
        )
    return {key: shape for key, shape in shapes.items() if not is_word(key)}
