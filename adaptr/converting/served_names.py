"""What servers call the layers of the models that they serve, as far as it can be told without the model."""

from __future__ import annotations

import re
from typing import Any

from adaptr.adapter import Adapter
from adaptr.converting.exporting import exported
from adaptr.errors import Unsupported

#: Where the models that are served have their numbered layers: those with a head, as `AutoModelForCausalLM` makes them.
STEMS = (
    r"model(\.language_model|\.text_model|\.decoder)?\.layers",
    r"language_model\.(model|transformer)\.layers",
    r"transformer\.(h|blocks|layers|encoder\.layers)",
    r"(gpt_neox|backbone)\.layers",
)
#: A layer: its number, and the names that a class gives its parts, which no wrapper's are.
LAYER = re.compile(rf"({'|'.join(STEMS)})\.\d+(\.(?!base_layer|module\b)[a-z]\w*|\.\d+)+|lm_head")


def named(adapter: Adapter, server: str, base: object = None) -> Adapter:
    """`adapter` under the names that `server` knows: those of `base`, or its own where they look like them.

    Raises `Unsupported` for others, and what `exported` does.
    """
    found = exported(adapter, base)
    if base is not None and not _headless(base):
        return found
    unknown = next((path for path in found.targets if not LAYER.fullmatch(path)), None)
    if unknown is None:
        return found
    if base is not None:
        raise Unsupported(
            f"`{unknown}` is what a model without its head calls a layer, and `{base}` is one",
            hint=f"give the base that `{server}` serves",
        )
    raise Unsupported(
        f"`{unknown}` of `{adapter.label}` is nothing that `{server}` calls a layer "
        "(`model.layers.0.self_attn.q_proj` is): it would be refused there, or left out without a word",
        hint="With `--base` the name is held against the model, and put right where the model has it under another",
    )


def _headless(base: Any) -> bool:
    """Whether a base is the inner model alone, whose names lack the way to it."""
    from adaptr.checkpoint.skeleton import described

    said = described(base).get("architectures") if not hasattr(base, "modules") else [type(base).__name__]
    return str((said or [""])[0]).endswith("Model")
