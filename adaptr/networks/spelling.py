"""What else a module may be called: the prefixes of checkpoints, and the tables of each family of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from adaptr.networks import clip, flux, sd3, unet
from adaptr.networks.table import Spelling

#: What stands before the modules of the U-Net or transformer in a published file.
PUBLISHED = "model.diffusion_model."
#: What stands before the modules of a component in published checkpoints of one file: of Stable Diffusion 1 and 2, XL,
#: 3 and Flux, as CompVis, Stability, Black Forest Labs and ComfyUI save them. "": the component alone, under another
#: library's names; that a prefix is off is no other name, and not decided here.
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "unet": (PUBLISHED, ""),
    "transformer": (PUBLISHED, ""),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
        "text_encoders.clip_l.transformer.",
        "",
    ),
    "text_encoder_2": (
        "conditioner.embedders.1.model.",
        "conditioner.embedders.0.model.",
        "text_encoders.clip_g.transformer.",
        "text_encoders.t5xxl.transformer.",
        "",
    ),
    "text_encoder_3": ("text_encoders.t5xxl.transformer.", ""),
}


def widths(shape: Sequence[int]) -> list[int]:
    """How many rows each part of a joined weight (out, in) has: q, k and v as many as it has columns, then the rest."""
    rows, columns = shape[0], max(shape[1], 1)
    found = [columns] * min(3, rows // columns)
    return [*found, *([rows - sum(found)] if rows > sum(found) else [])]


def spellings(path: str) -> Iterator[Spelling]:
    """What else the module at `path` may be called in a checkpoint, likeliest first."""
    component, _, rest = path.partition(".")
    if component not in COMPONENTS:
        return
    others = [*_others(component, rest)]
    for prefix in (f"{component}.", *COMPONENTS[component]):
        own = [Spelling((rest,))] if prefix not in {"", f"{component}."} else []
        for found in (*own, *others):
            yield replace(found, paths=tuple(f"{prefix}{path}" for path in found.paths))


def _others(component: str, rest: str) -> Iterator[Spelling]:
    tables: Mapping[str, Sequence[Callable[[str], Iterator[Spelling]]]] = {
        "unet": (unet.others,),
        "transformer": (flux.TABLE.others, sd3.TABLE.others),
    }
    for others in tables.get(component, (clip.others,)):
        yield from others(rest)
