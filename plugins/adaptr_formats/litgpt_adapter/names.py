"""What LitGPT calls the parts of models like Llama, and transformers."""

from __future__ import annotations

import re

from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, phrases, shown
from adaptr_formats.litgpt.reading import FUSED, LAYER, OUTSIDE

#: What the file has its tensors under.
INSIDE = "model"
ROWS, GATE = "adapter_wte.weight", "gating_factor"
SCALE, BIAS, WEIGHT = "adapter_scale", "adapter_bias", "weight"
ATTENTION = "self_attn"
#: Modules of a layer: LitGPT's name to transformers'.
_INNER = {**LAYER, "attn": ATTENTION, "norm_1": "input_layernorm", "norm_2": "post_attention_layernorm"}
_OUTER = {**OUTSIDE, "transformer.ln_f": "model.norm"}
_NORMS = ("input_layernorm", "post_attention_layernorm", "model.norm")
_KEY = re.compile(
    rf"(transformer\.h\.(?P<number>\d{{1,6}})\.)?(?P<module>[\w.]+?)\.(?P<slot>{re.escape(ROWS)}|{GATE}|{SCALE}|{BIAS}|{WEIGHT})",
    re.DOTALL,
)
_PATH = re.compile(r"model\.layers\.(?P<number>\d{1,6})\.(?P<module>[\w.]+)", re.DOTALL)


def grouped(keys: list[str]) -> dict[tuple[str, str], dict[str, str]]:
    """{(transformers' path, LitGPT's module): {slot: key}}. Raises `TensorUnknown` for other names."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        known = (_OUTER if match["number"] is None else _INNER).get(match["module"], "") if match else ""
        if match is None or not known or match["slot"] not in _slots(known):
            raise TensorUnknown(
                f"`{shown(key)}` is no tensor of a LitGPT LLaMA-Adapter on a model like Llama", hint=phrases.AGAIN
            )
        path = known if match["number"] is None else f"model.layers.{int(match['number'])}.{known}"
        other = found.setdefault((path, match["module"]), {}).setdefault(match["slot"], key)
        if other != key:
            raise ConfigConflict(f"`{shown(other)}` and `{shown(key)}` are one tensor", hint=phrases.AGAIN)
    if not found:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    return found


def _slots(path: str) -> tuple[str, ...]:
    """What a module of an attention that is fused, or of another one, can have."""
    return (WEIGHT,) if path.endswith(_NORMS) else (ROWS, GATE, SCALE, BIAS)


def theirs(path: str) -> str:
    """What LitGPT calls a module of transformers', "" where it has none of that name."""
    match = _PATH.fullmatch(path)
    if match is None:
        return next((name for name, own in _OUTER.items() if own == path), "")
    inner = next((name for name, own in _INNER.items() if own == match["module"] and name != FUSED), "")
    return f"transformer.h.{int(match['number'])}.{inner}" if inner else ""


def is_norm(path: str) -> bool:
    """Whether a module is one of the norms that version 2 trains."""
    return path.endswith(_NORMS) and bool(theirs(path))
