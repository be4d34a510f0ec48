"""PEFT's ADALORA: method `adalora`. A file holds the triplets that are left; `rank_pattern` says which they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

#: Entries of a `rank_pattern`: a thousand layers that began at rank 4096.
LONGEST = 1 << 22


class AdaLora(PeftType):
    name = "adalora"
    methods = ("adalora",)
    slots = {"A": "lora_A", "B": "lora_B", "E": "lora_E"}
    table = {
        "dropout": Field("lora_dropout", default=0.0, called="dropout rates"),
        "target_r": Field("target_r", int),
        "tinit": Field("tinit", int),
        "tfinal": Field("tfinal", int),
        "interval": Field("deltaT", int),
        "beta1": Field("beta1"),
        "beta2": Field("beta2"),
        "orthogonal": Field("orth_reg_weight"),
    }
    turns = open = trimmed = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        begun = fields_of.size(config, "init_r", 12)
        alpha = fields_of.number(config, "lora_alpha")
        said = {
            "r": begun,
            "begun": begun,
            "alpha": alpha if alpha > 0 else float(begun),
            **super().values(config, path),
            "steps": int(fields_of.number(config, "total_step", 0)) if config.get("total_step") else 0,
        }
        return fields_of.complete("adalora", said)

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """The rank is that of the tensors."""
        (r, width), out = shapes["A"], shapes["B"][0]
        if r > values["begun"] or shapes["B"][1] != r or shapes["E"] != (r, 1):
            raise ConfigConflict(
                f"`{path}`: triplets",
                verb="are",
                got=f"of shapes {dict(shapes)}",
                want=f"at most {values['begun']} of them",
                hint=phrases.AGAIN,
            )
        kind = kinds.layer(fields_of.flag(source.config, "fan_in_fan_out"))
        return placing.flattened(model, Target(path, kind, (out, width), {**values, "r": r}))

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, (shape[0], *target.shape[1:]) if name == "A" else shape)

    def absent(self, config: Mapping[str, Any], targets: frozenset[str]) -> list[str]:
        """Modules whose triplets are counted."""
        counted = config.get("rank_pattern")
        names = counted if isinstance(counted, Mapping) else ()
        paths = (key.removeprefix("base_model.model.").partition(".lora_E")[0] for key in names)
        return [f"`{path}` in `rank_pattern`" for path in paths if path not in targets]

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Which triplets are left is the first ones."""
        configs = {path: t.config for path, t in adapter.targets.items()}
        begun = {c["begun"] or c["r"] for c in configs.values()}
        alphas = {c["alpha"] for c in configs.values()}
        if len(begun) > 1 or len(alphas) > 1:
            raise Unsupported(
                "PEFT's AdaLoRA has one initial rank and one alpha for all targets, and this adapter has several",
                hint=phrases.OWN,
            )
        n, steps = begun.pop(), next(iter(configs.values()))["steps"]
        return {
            **super().fields(adapter),
            "init_r": n,
            "lora_alpha": alphas.pop(),
            "total_step": max(steps, 1),
            "rank_pattern": _trimmed({path: c["r"] for path, c in configs.items()}, n) or None,
        }

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        return found.reshape(same.flat(found.shape))


def _trimmed(ranks: Mapping[str, int], begun: int) -> dict[str, list[bool]]:
    """PEFT's `rank_pattern`: for each layer which of its first triplets are left, {} where all are."""
    if all(r == begun for r in ranks.values()):
        return {}
    if begun * len(ranks) > LONGEST:  # a number in a file is no reason to fill the memory
        raise Unsupported(
            f"an initial rank of {begun} at {len(ranks)} layers makes a `rank_pattern` of more than {LONGEST} entries",
            hint="keep it in adaptr's own format, or resize it first (`adaptr resize`)",
        )
    return {f"{path}.lora_E": [i < r for i in range(begun)] for path, r in ranks.items()}
