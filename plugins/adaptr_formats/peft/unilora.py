"""PEFT's UNILORA: method `unilora`. A file has one vector: which layers it is of only its configuration says, and the
base has their order, from which the indices are drawn. With `save_indices` they are in the file too, and checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, TargetNotFound, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys, selecting
from adaptr.foreign.peft.types import Field, PeftType
from adaptr_plugins.delta.unilora import Config, picks, placed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

INDICES = ("unilora_indices_A", "unilora_indices_B", "unilora_scales_A", "unilora_scales_B")


class UniLoRA(PeftType):
    name = "unilora"
    methods = ("unilora",)
    common = {"theta": "unilora_theta_d"}
    others = INDICES
    table = {
        "r": Field("r", int, 4, called="ranks"),
        "d": Field("theta_d_length", int, 256, called="lengths"),
        "seed": Field("proj_seed", int, 42, called="seeds"),
        "dropout": Field("unilora_dropout", default=0.0, called="dropout rates"),
    }
    turns = open = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        pieces = self.once(source)
        shared = fields_of.complete("unilora", self.values(source.config, ""))
        if pieces[":theta"].shape != (shared["d"],):
            raise phrases.misshapen(
                f"`{self.common['theta']}`", pieces[":theta"].shape, (shared["d"],), ConfigConflict, hint=phrases.AGAIN
            )
        found = {one.path: one for one in placed(_targets(source, model, shared))}
        for path, slots in keys.grouped(source.keys).items():
            if path not in found or not _same(source, slots, found[path]):
                raise ConfigConflict(
                    f"`{path}`: its indices are not those that are drawn from `proj_seed` for these layers",
                    hint=phrases.AGAIN,
                )
        own = next(iter(found.values())).config
        return Draft("unilora", {**shared, "total": own["total"], "sha256": own["sha256"]}, found, pieces)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` where layers are missing that the indices were drawn for."""
        configs = sorted((target.config for target in adapter.targets.values()), key=lambda c: int(c["offset"]))
        sizes = [c["r"] * (c["rows"] + c["cols"]) for c in configs]
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        if [c["offset"] for c in configs] != starts or {c["total"] for c in configs} != {sum(sizes)}:
            raise Unsupported(
                "PEFT draws Uni-LoRA's indices for just the layers that are there, and this adapter's were drawn for "
                "others too",
                hint="write it as a LoRA, which is exact (`adaptr convert --method lora`)",
            )
        return {**super().fields(adapter), "save_indices": _saved(adapter)}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        made = super().tensors(adapter)
        for path, target in adapter.targets.items() if _saved(adapter) else ():
            made |= {f"{path}:{slot}": (self.key(path, slot), one) for slot, one in _laid(target).items()}
        return made


def _targets(source: Source, model: nn.Module | None, config: Mapping[str, Any]) -> list[Target]:
    """The layers that PEFT adapts, in the order of the base."""
    from adaptr import targets as places

    base = placing.needed(model, "unilora", "a Uni-LoRA file doesn't say which layers it is of")
    described = (places.describe(path, module) for path, module in base.named_modules())
    linear = {one.path: one for one in described if one is not None and one.is_linear}
    found = selecting.targets(source.config, list(linear), base)
    most = min((min(linear[path].shape) for path in found), default=0)
    if found and not (0 < config["r"] <= most and 0 <= config["seed"] < 2**63):
        raise ConfigConflict(
            "`r` and `proj_seed`",
            verb="are",
            got=f"{config['r']} and {config['seed']}",
            want=f"a rank up to {most}, the smallest side, and a seed of 63 bits",
            hint=phrases.AGAIN,
        )
    if not found:
        raise TargetNotFound("the base has none of the `target_modules` of a Uni-LoRA file", hint=phrases.BASE)
    return [replace(linear[path], config=dict(config)) for path in linear if path in set(found)]


def _saved(adapter: Adapter) -> bool:
    """Whether the file that it came from has the indices."""
    return bool(adapter.foreign.get("peft", {}).get("config", {}).get("save_indices"))


def _same(source: Source, slots: Mapping[str, str], target: Target) -> bool:
    stored = {slot: source.tensors[key] for slot, key in slots.items()}
    made = _laid(target)
    return stored.keys() == made.keys() and all(stored[slot].equal(made[slot].to(stored[slot].dtype)) for slot in made)


def _laid(target: Target) -> dict[str, Tensor]:
    """The indices and scales of a layer, as PEFT has them."""
    cfg = Config(**target.config)
    picked, root = picks(cfg)
    split = cfg.r * cfg.cols
    both = picked[:split].view(cfg.r, cfg.cols), picked[split:].view(cfg.rows, cfg.r)
    return dict(zip(INDICES, (*both, *(root[one] for one in both)), strict=True))
