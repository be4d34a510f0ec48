"""What a configuration says of a bottleneck, and where its tensors are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptr.errors import Unsupported

SCALING, RULE = "scaling", "phm_rule"
#: The norm before D, by adaptr's names. AdapterHub has it twice, and D behind it.
NORM = {"g": "adapter_norm_before.weight", "c": "adapter_norm_before.bias"}
#: What decides what a bottleneck computes, with the values that files of older versions mean.
DEFAULTS: Mapping[str, Any] = {
    "original_ln_before": False, "original_ln_after": True, "residual_before_ln": True, "ln_before": False,
    "ln_after": False, "is_parallel": False, "non_linearity": None, "scaling": 1.0, "use_gating": False,
    "inv_adapter": None, "phm_layer": False, "factorized_phm_W": True, "shared_W_phm": False, "shared_phm_rule": True,
    "factorized_phm_rule": False,
}  # fmt: skip
#: What has no method, and why.
MISSING = {
    "ln_after": "a norm of its own behind it",
}
#: What the output is added to, by `residual_before_ln`.
KEEPS = {True: "output", False: "read", "post_add": "sum"}


def slots(said: Mapping[str, Any]) -> dict[str, str]:
    """Where D and the rest are."""
    down = "adapter_down.1" if said["ln_before"] else "adapter_down.0"
    bias = "b" if said["phm_layer"] else "bias"
    biases = {"b_d": f"{down}.{bias}", "b_u": f"adapter_up.{bias}"}
    if not said["phm_layer"]:
        return {"D": f"{down}.weight", "U": "adapter_up.weight", **biases}
    sides = {"d": down, "u": "adapter_up"}
    return {f"{n}_{s}": f"{at}.W_{w}" for s, at in sides.items() for n, w in (("s", "left"), ("t", "right"))} | biases


def unknown(what: str, field: str) -> Unsupported:
    return Unsupported(
        f"the bottleneck has {what} (`{field}`), and adaptr has no method for that",
        hint="train it without, or keep it where it was trained",
    )
