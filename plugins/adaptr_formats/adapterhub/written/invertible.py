"""Invertible adapters as AdapterHub has them: a field and tensors of the bottleneck that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same
from adaptr_formats.adapterhub.invertible import NICE, SLOTS
from adaptr_formats.adapterhub.written.bottleneck import CALLED
from adaptr_formats.adapterhub.written.layers import Layers, Made

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: Of a configuration that has bottlenecks nowhere.
_NOWHERE: Mapping[str, Any] = {
    "mh_adapter": False, "output_adapter": False, "reduction_factor": 16, "leave_out": [], "original_ln_before": True,
    "original_ln_after": True, "residual_before_ln": True, "ln_before": False, "ln_after": False, "is_parallel": False,
    "phm_layer": False, "scaling": 1.0, "use_gating": False, "dropout": 0.0,
}  # fmt: skip


def write(adapter: Adapter, layers: Layers) -> Made:
    """A configuration of it alone."""
    where = layers.model.embeddings
    if not where or len(adapter.targets) > 1:
        raise Unsupported(
            f"AdapterHub has invertible adapters of models of type `{layers.model_type}` where no module is",
            hint=phrases.OWN,
        )
    ((path, target),) = adapter.targets.items()
    if path != where and not path.endswith(f".{where}"):
        raise Unsupported(
            f"`{path}` is where AdapterHub has no invertible adapter: it has it at `{where}`, behind positions",
            hint=f"make it there: `--targets {where}`",
        )
    root, own = path[: -len(where)], same.at(adapter, path)
    at = f"{root}invertible_adapters.{layers.name}"
    config = {
        **_NOWHERE,
        "non_linearity": CALLED[target.config["activation"]],
        "inv_adapter": NICE,
        "inv_adapter_reduction_factor": target.config["reduction"],
    }
    return Made(config, {f"{path}:{name}": (f"{at}.{slot}", own[name]) for name, slot in SLOTS.items()})


def joined(own: Made, bottleneck: Made) -> Made:
    """The configuration of both. Raises `Unsupported` where they have two functions."""
    functions = own.config["non_linearity"], bottleneck.config["non_linearity"]
    if functions[0] != functions[1]:
        raise Unsupported(
            f"AdapterHub has one function for an invertible adapter and its bottlenecks, and these have {functions[0]} "
            f"and {functions[1]}",
            hint=phrases.OWN,
        )
    said = {name: value for name, value in own.config.items() if name.startswith("inv_adapter")}
    return Made({**bottleneck.config, **said}, {**own.tensors, **bottleneck.tensors})
