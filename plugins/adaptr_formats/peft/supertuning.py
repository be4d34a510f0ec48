"""PEFT's SUPERTUNING: method `supertuning`. Places are flat indices in the order of |W|, and must be in the file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

SPARSE = {"v": "supertuning_values", "i": "supertuning_indices"}
LOW = {"A": "supertuning_lora_A", "B": "supertuning_lora_B"}


class SuperTuning(PeftType):
    name = "supertuning"
    methods = ("supertuning",)
    slots = {**SPARSE, **LOW}
    weight = frozenset(LOW.values())
    table = {
        "sparsity": Field("sparsity", default=0.99, called="shares"),
        "dropout": Field("lora_dropout", default=0.0, called="dropout rates"),
    }
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        r = fields_of.size(config, "r") if config.get("r") is not None else 0
        alpha = fields_of.number(config, "lora_alpha") if config.get("lora_alpha") is not None else 2.0 * r
        top = config.get("select_top") is None or fields_of.flag(config, "select_top")
        said = {**super().values(config, path), "top": top, "r": r, "alpha": alpha}
        return fields_of.complete("supertuning", said)

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        return self.slots if values["r"] else SPARSE

    def there(self, values: Mapping[str, Any], slots: Mapping[str, str]) -> Mapping[str, str]:
        if SPARSE["i"] not in slots:
            raise Unsupported(
                f"the file has no `{SPARSE['i']}`: places that are chosen again from the base are in another order, "
                "and others where it is in another precision",
                hint="save it with `save_precomputed_indices` true, where it was trained",
            )
        return self.wanted(values)

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        found = placing.place(model, path, "a Super-Tuning file doesn't say how large its layers are")
        (n,), (rows, cols) = placing.axes(path, SPARSE["v"], shapes["v"], 1), found.shape
        if shapes["i"] != (n,):
            raise phrases.misshapen(f"`{SPARSE['i']}` of `{path}`", shapes["i"], (n,), ConfigConflict, phrases.AGAIN)
        return Target(path, found.kind, found.shape, {**values, "n": n, "rows": rows, "cols": cols})

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        inside = functools.partial(_inside, target.path, target.shape[0] * target.shape[1])
        return Piece(key, shape, then=inside if name == "i" else None)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for counts that PEFT would not have."""
        from adaptr_plugins.delta.supertuning import count

        configs = [target.config for target in adapter.targets.values()]
        said = {(c["r"], c["alpha"], c["top"]) for c in configs}
        odd = any(c["n"] != count(c["rows"] * c["cols"], c["sparsity"]) for c in configs)
        if len(said) > 1 or odd or any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported(
                "PEFT's Super-Tuning has one rank and alpha, as many places as `sparsity` says, and works on linear "
                "layers alone",
                hint=phrases.OWN,
            )
        r, alpha, top = said.pop()
        both = {"r": r, "lora_alpha": alpha} if r else {"r": None}
        return {**super().fields(adapter), **both, "select_top": top, "save_precomputed_indices": True}

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        import torch

        return found.tensor.to(torch.int32) if name == "i" else found


def _inside(path: str, numel: int, places: Tensor) -> Tensor:
    """Flat indices. Raises `ConfigConflict` unless they are different and lie inside."""
    flat: Tensor = places.long()
    if len(set(flat.tolist())) < len(flat) or bool(((flat < 0) | (flat >= numel)).any()):
        raise ConfigConflict(
            f"`{path}`: the places of `supertuning_indices` are not different ones of {numel}", hint=phrases.AGAIN
        )
    return flat
