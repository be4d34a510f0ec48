"""What a bottleneck reads, and what is kept beside what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptr.errors import Unsupported
from adaptr_formats.adapterhub import layouts, places
from adaptr_formats.adapterhub.bottleneck.fields import KEEPS, unknown


def behind(layer: str, here: layouts.Place, said: Mapping[str, Any]) -> dict[str, Any]:
    """What is read and what is kept where that is not the block's output."""
    if not said["original_ln_after"]:
        raise unknown("no sum behind it", "original_ln_after")
    if not said["original_ln_before"]:
        return {}
    require_stream(here)
    keeps = KEEPS.get(said["residual_before_ln"])
    if keeps is None or (keeps == "sum" and not here.norm):
        raise unknown("a residual that its own library has not", "residual_before_ln")
    norm = places.joined(layer, here.norm) if here.norm else ""
    found = {"residual": True, "calls": norm, "reads": places.joined(layer, here.stream)}
    return found if keeps == "output" else {**found, "keeps": keeps}


def require_stream(here: layouts.Place) -> None:
    if not here.stream:
        raise Unsupported(
            "in this type of model what goes around the feed-forward has the attention's output in it, which no module "
            "gets",
            hint="train it with `original_ln_before=False`, of the output alone",
        )
