"""Prompts as AdapterHub has them: a table of rows, which it has in encoders alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same
from adaptr_formats.adapterhub.config import PROMPT
from adaptr_formats.adapterhub.prompt import AHEAD, SLOT, TYPES
from adaptr_formats.adapterhub.written.layers import Layers, Made

if TYPE_CHECKING:
    from adaptr.adapter import Adapter


def write(adapter: Adapter, layers: Layers) -> Made:
    ((path, target),) = adapter.targets.items()
    said = target.config
    if said["place"] != "embeddings":
        raise Unsupported(
            "AdapterHub's prompts are behind the embeddings' norm and positions, and this one gets both (`place` "
            "words)",
            hint="train it with `place` embeddings, or keep it in adaptr's own format",
        )
    if layers.model_type not in TYPES:
        raise Unsupported(
            f"AdapterHub has no prompts in a model of type `{layers.model_type}`, and has them in "
            f"{phrases.listed(TYPES)}",
            hint=phrases.OWN,
        )
    combined = next((name for name, ahead in AHEAD.items() if ahead == said["ahead"]), None)
    if combined is None:
        raise Unsupported(
            f"AdapterHub has a prompt behind no token of the text or behind its first, and this is behind "
            f"{said['ahead']}",
            hint=phrases.OWN,
        )
    rows = same.at(adapter, path)["P"]
    tokens = said["tokens"]
    config = {"architecture": PROMPT, "prompt_length": tokens, "combine": combined, "prompt_init": "random_uniform"}
    key = f"{_root(layers)}prompt_tuning.prompt_tunings.{layers.name}.{SLOT}"
    return Made(config, {f"{path}:P": (key, rows if rows.shape[0] == tokens else rows.tensor[:tokens])})


def _root(layers: Layers) -> str:
    """How the names of the backbone's modules begin, which its embeddings show."""
    return next((name.partition("embeddings.")[0] for name in sorted(layers.biased) if "embeddings." in name), "")
