"""PEFT's LORA: methods `lora` and `dora`, on linear layers, look-up tables, convolutions and stacks of experts; and the
others of `_variants`, which have something beside the factors, or other factors.

How `lora-plus` and `lora-fa` learn is nothing that a file of PEFT's says: they are written, and read, as plain LoRA.
What begins with a part of the weight is written as a LoRA of twice the rank, which is right on the base as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import initial, keys, merged, stacks, tokens
from adaptr.foreign.peft.types import Field, PeftType
from adaptr_formats.peft import _variants
from adaptr_formats.peft._variants import Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

SLOTS = {"A": "lora_A", "B": "lora_B", "b": "lora_B.bias", **_variants.SLOTS}
TABLE_SLOTS = {"A": "lora_embedding_A", "B": "lora_embedding_B"}


class Lora(PeftType):
    name = "lora"
    methods = ("lora", *_variants.METHODS, *_variants.PLAIN, "stack")
    untold = _variants.UNTOLD
    slots = SLOTS
    weight = frozenset({"lora_A", "lora_B"})
    others = tuple(TABLE_SLOTS.values())
    table = {
        "dropout": Field("lora_dropout", default=0.0, called="dropout rates"),
        "rslora": Field("use_rslora", bool),
    }
    alpha = "lora_alpha"
    refused = {
        "arrow_config": "Arrow routes between several adapters",
        "monteclora_config": "MonteCLoRA samples its factors",
        "megatron_config": "its factors are split over Megatron's ranks",
    }
    turns = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        """Targets and tensors. `model` decides kinds where it is given."""
        config = source.config
        fields_of.refuse(config, self.refused)
        _require_layers(config)
        init = initial.of(source)
        variant = _variants.of(config)
        if init and variant is not _variants.NONE:
            raise Unsupported(
                f"`{variant.field}` with `init_lora_weights` `{init}`: what it does depends on a changed base, which "
                "can't be undone in it",
                hint="use it with PEFT where it was trained",
            )
        targets: dict[str, Target] = {}
        pieces: dict[str, Piece] = {}
        for path, slots in keys.grouped(source.keys).items():
            if tokens.SLOT in slots:
                continue
            target, own = _target(source, model, path, slots, variant)
            if init:
                values, own = initial.undone(source, init, target, own)
                target = dataclasses.replace(target, config=values)
            targets[target.path] = target
            pieces |= {f"{target.path}:{name}": piece for name, piece in own.items()}
        made = Draft(variant.method, _values(source, variant, ""), targets, pieces, _rewritten(config, init))
        return tokens.beside(source, model, made)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        if adapter.parts:
            lora, rows, _ = tokens.split(adapter, self.methods)
            return {**self.fields(lora), tokens.FIELD: tokens.indices(rows)}
        adapter = _variants.written(adapter)
        configs = {path: t.config for path, t in adapter.targets.items()}
        made = super().fields(adapter)
        if len({c["rslora"] for c in configs.values()}) > 1:
            alphas = {path: _plain_alpha(c) for path, c in configs.items()}
            common = fields_of.common(alphas)
            made |= {"use_rslora": False, "lora_alpha": common}
            made["alpha_pattern"] = fields_of.patterns(alphas, common)
        made |= {"use_dora": False, "lora_bias": _bias(configs)}
        made |= _variants.BY_METHOD.get(adapter.method, _variants.NONE).fields(adapter)
        parameters = placing.ordered(p for p, t in adapter.targets.items() if t.stacked)
        made["target_modules"] = placing.ordered(p for p, t in adapter.targets.items() if not t.stacked)
        return {**made, "target_parameters": parameters} if parameters else made

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """{adaptr's key: (PEFT's key, tensor)}."""
        if adapter.parts:
            lora, rows, name = tokens.split(adapter, self.methods)
            return {**tokens.inside(name, self.tensors(lora)), **tokens.inside(tokens.PART, tokens.tensors(rows))}
        made: dict[str, tuple[str, Tensor | Same]] = {}
        adapter = _variants.written(adapter)
        unsaved = _variants.BY_METHOD.get(adapter.method, _variants.NONE).unsaved
        for path, target in adapter.targets.items():
            if target.stacked:
                at, flat = stacks.nested(adapter, path), stacks.flat(adapter.at(path))
                made |= {f"{path}:{name}": (self.key(at, _slot(name, target.kind)), t) for name, t in flat.items()}
                continue
            for name, tensor in ((n, t) for n, t in same.at(adapter, path).items() if n not in unsaved):
                wide = name == "m" and len(target.shape) > 2
                shape = (1, *tensor.shape, *(1 for _ in target.shape[2:])) if wide else tensor.shape
                made[f"{path}:{name}"] = self.key(path, _slot(name, target.kind)), tensor.reshape(shape)
        return made


def _require_layers(config: Mapping[str, Any]) -> None:
    """Raises `Unsupported` where layers are numbered as they are in no checkpoint of the base."""
    if config.get("layer_replication"):
        raise Unsupported(
            "`layer_replication` is set in `adapter_config.json`: its layers are those of a model with layers "
            "repeated, which only PEFT builds; and merged by PEFT, the copies of a layer share one weight, which gets "
            "the changes of all",
            hint="write the base with its layers repeated (mergekit's `passthrough`), and set `layer_replication` to "
            "null there: of that base it is plain LoRA",
        )


def _values(source: Source, variant: Variant, path: str) -> dict[str, Any]:
    """adaptr's configuration of one target, patterns resolved."""
    found = source.type.values(source.config, path)
    bias = fields_of.flag(source.config, "lora_bias")
    if bias and not variant.biased:
        raise ConfigConflict(
            f"`{variant.field}` and `lora_bias` are both set, which no PEFT writes", hint="correct the configuration"
        )
    own = variant.values(source.config, path)
    return {**found, **({"bias": bias} if variant.has_bias else {}), **own}


def _slot(name: str, kind: str) -> str:
    return (TABLE_SLOTS if kinds.TABLE_OF[kind].looked_up and name in TABLE_SLOTS else SLOTS)[name]


def _rewritten(config: Mapping[str, Any], init: str) -> dict[str, Any]:
    """Fields that are no longer true of the tensors as they were read."""
    made = {"enable_lora": None} if config.get("enable_lora") is not None else {}
    return {**made, "init_lora_weights": True} if init else made


def _target(
    source: Source, model: nn.Module | None, path: str, slots: dict[str, str], variant: Variant
) -> tuple[Target, dict[str, Piece]]:
    if stacks.is_raw(source.config, path):
        if variant.field not in ("", "use_dora"):
            raise Unsupported(f"`{path}`: a raw parameter with `{variant.field}`", want="one of linear layers")
        return _raw(source, model, path, slots)
    ends = ("lora_embedding_A", "lora_embedding_B") if "lora_embedding_A" in slots else ("lora_A", "lora_B")
    values = _values(source, variant, path)
    wanted = {"A": ends[0], "B": ends[1], **variant.slots}
    wanted |= {"b": f"{ends[1]}.bias"} if values.get("bias") else {}
    found = keys.chosen(path, slots, wanted)
    shapes = {name: source.shapes[key] for name, key in found.items()}
    enabled = merged.parts(source.config)
    if enabled:
        values = merged.values(enabled, values)
        pieces = merged.pieces(enabled, path, found, shapes, values["r"])
        a, b = pieces["A"].shape, pieces["B"].shape
    else:
        a, b = _agreeing(path, *variant.whole(shapes["A"], shapes["B"], values), values["r"])
        flat = {"m": (b[0],)}
        pieces = {name: Piece(key, flat.get(name, shapes[name])) for name, key in found.items()}
    kind = _kind(source.config, ends[0], len(a))
    target = placing.agreed(model, Target(path, kind, (b[0], *a[1:]), variant.scaled(values, a[1])))
    return target, {**pieces, **variant.added(source, target)}


def _agreeing(path: str, a: tuple[int, ...], b: tuple[int, ...], r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of two factors. Raises `ConfigConflict` unless they belong together and have rank `r`."""
    if len(a) != len(b) or len(a) < 2:
        raise ConfigConflict(f"`{path}`: factors of shapes {a} and {b} don't belong together", hint=phrases.AGAIN)
    if b[1] != a[0] and len(a) > 2:
        raise Unsupported(
            f"`{path}` is a grouped convolution, whose factors {a} and {b} PEFT combines in its own way",
            hint="merge it with PEFT, or leave that layer out of the targets",
        )
    if a[0] != r or b[1] != r:
        raise ConfigConflict(
            f"`{path}`: the tensors",
            verb="have",
            got=f"{a} and {b}",
            want=f"rank {r}, as the configuration says",
            hint=phrases.AGAIN,
        )
    return a, b


def _raw(source: Source, model: nn.Module | None, path: str, slots: dict[str, str]) -> tuple[Target, dict[str, Piece]]:
    """A raw parameter: a stack of experts, or a matrix such as a router's."""
    found = keys.chosen(path, slots, {"A": "lora_A", "B": "lora_B"})
    values = _values(source, _variants.NONE, f"{path}.weight")
    if stacks.is_matrix(source, model, path, found, values["r"]):
        place = stacks.matrix(source, model, path, found)
        return dataclasses.replace(place, config=values), {n: Piece(k, source.shapes[k]) for n, k in found.items()}
    place = stacks.place(source.config, model, path)
    values = _values(source, _variants.NONE, place.path)
    return dataclasses.replace(place, config=values), stacks.pieces(source, place, found, values["r"])


def _kind(config: Mapping[str, Any], slot: str, axes: int) -> str:
    if slot == "lora_embedding_A":
        return kinds.TABLE
    if axes > 2:
        return kinds.convolution(axes - 2)
    return kinds.layer(fields_of.flag(config, "fan_in_fan_out"))


def _plain_alpha(config: Mapping[str, Any]) -> float:
    """The alpha that gives the same scale without rsLoRA."""
    alpha, r = config["alpha"], config["r"]
    return float(alpha * r**0.5 if config["rslora"] else alpha)


def _bias(configs: Mapping[str, Mapping[str, Any]]) -> bool:
    found = {bool(c.get("bias")) for c in configs.values()}
    if len(found) > 1:
        raise Unsupported(
            "PEFT gives all targets a bias in `lora_B` or none, and this adapter has one at some of them",
            hint=phrases.OWN,
        )
    return found.pop()
