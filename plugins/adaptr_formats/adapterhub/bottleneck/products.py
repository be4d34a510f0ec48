"""D and U as sums of Kronecker products: the method `compacter`, or `phm` where each has rules of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import TensorAbsent
from adaptr.foreign.pieces.module import Module
from adaptr_formats.adapterhub.bottleneck.fields import RULE, slots, unknown
from adaptr_formats.adapterhub.bottleneck.matrices import Made, pieces
from adaptr_formats.adapterhub.config import conflict

if TYPE_CHECKING:
    from torch import Tensor


def read(module: Module, said: Mapping[str, Any], shared: list[Module]) -> Made:
    if said["shared_W_phm"] or said["factorized_phm_rule"] or not said["factorized_phm_W"]:
        raise unknown("Kronecker products other than Compacter's", "phm_layer")
    named = slots(said)
    (n, d_n, r), (_, _, m_n) = module.shape(named["s_d"], (3,)), module.shape(named["t_d"], (3,))
    m, d = n * m_n, n * d_n
    shapes = {"s_d": (n, d_n, r), "t_d": (n, r, m_n), "b_d": (m,), "s_u": (n, m_n, r), "t_u": (n, r, d_n), "b_u": (d,)}
    found = pieces(module, named, shapes)
    if said["shared_phm_rule"]:
        rules = pieces(_rules(shared), {"A": RULE}, {"A": (n, n, n)})
        return "compacter", {"m": m, "n": n, "r": r}, found, rules
    down = named["b_d"].rpartition(".")[0]
    own = pieces(module, {"A_d": f"{down}.{RULE}", "A_u": f"adapter_up.{RULE}"}, {"A_d": (n, n, n), "A_u": (n, n, n)})
    for side, (rows, columns) in (("d", (d_n, m_n)), ("u", (m_n, d_n))):
        left, right = found.pop(f"s_{side}"), found.pop(f"t_{side}")
        own[f"B_{side}"] = dataclasses.replace(left, shape=(n, rows, columns), then=_times(module, right.source))
    return "phm", {"m": m, "n": n}, {**found, **own}, {}


def _times(module: Module, key: str) -> Callable[[Tensor], Tensor]:
    return lambda left: (left.double() @ module.file[key].double()).to(left.dtype)


def _rules(shared: list[Module]) -> Module:
    """Raises `TensorAbsent` where the rules that all layers share are not there."""
    if not shared:
        raise TensorAbsent(
            "the file has no `phm_rule`, which all its layers share: AdapterHub before 1.0 did not save it",
            hint="it can't be had from the rest: save it again from the model that was trained",
        )
    if len(shared) > 1:
        raise conflict(f"the file has {len(shared)} sets of what all layers share")
    return shared[0]
