"""PEFT's LORA: methods `lora` and `dora`, on linear layers, look-up tables, convolutions and stacks of experts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys, placing, stacks
from adaptr.foreign.peft.draft import Draft, Piece

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

_MUTATED = (
    "it was trained on a base that `{init}` changed first, so on the base itself it is wrong; convert it where it was "
    "trained (PEFT's `save_pretrained(..., path_initial_model_for_weight_conversion=...)`) and load the result"
)
_REFUSED = {
    "alora_invocation_tokens": "aLoRA works from its invocation tokens on; as plain LoRA it would work everywhere",
    "use_qalora": "QA-LoRA pools the input, which is not plain LoRA",
    "use_bdlora": "BD-LoRA packs block-diagonal factors",
    "kasa_config": "KaSA has a diagonal between the factors",
    "arrow_config": "Arrow routes between several adapters",
    "monteclora_config": "MonteCLoRA samples its factors",
    "layer_replication": "its layers are those of a model with layers repeated, which only PEFT builds",
    "trainable_token_indices": "rows of the embedding are replaced as well",
    "megatron_config": "its factors are split over Megatron's ranks",
}


# ---------------------------------------------------------------- reading


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors. `model` decides kinds where it is given."""
    config = source.config
    fields_of.refuse(config, _REFUSED)
    _refuse_init(config.get("init_lora_weights"))
    method = "dora" if fields_of.flag(config, "use_dora") else "lora"
    shared = _values(config, method, "")
    draft = Draft(method, shared, {}, {})
    targets: dict[str, Target] = {}
    for path, slots in keys.grouped(source.keys).items():
        target, pieces = _target(source, model, path, slots, method)
        targets[target.path] = target
        draft.pieces.update({f"{target.path}:{name}": piece for name, piece in pieces.items()})
    return Draft(method, shared, targets, draft.pieces)


def _refuse_init(init: Any) -> None:
    name = init.lower() if isinstance(init, str) else ""
    if name.startswith(("pissa", "olora", "corda", "lora_ga")):
        raise Unsupported(f"`init_lora_weights` is `{init}`: {_MUTATED.format(init=init)}")
    if name.startswith("loftq"):
        raise Unsupported(
            "`init_lora_weights` is `loftq`: it corrects the errors of one quantised base and is wrong on any other; "
            "merge it there, or save it with `init_lora_weights` true if it was trained on and used with that base only"
        )


def _values(config: Mapping[str, Any], method: str, path: str) -> dict[str, Any]:
    """adaptr's configuration of one target, patterns resolved."""
    found = {
        **fields_of.ranked(config, path, "r", "lora_alpha"),
        "dropout": fields_of.number(config, "lora_dropout", 0.0),
        "rslora": fields_of.flag(config, "use_rslora"),
    }
    bias = fields_of.flag(config, "lora_bias")
    if method == "dora" and bias:
        raise ConfigConflict("`use_dora` and `lora_bias` are both set, which no PEFT writes")
    return found if method == "dora" else {**found, "bias": bias}


def _target(
    source: Source, model: nn.Module | None, path: str, slots: dict[str, str], method: str
) -> tuple[Target, dict[str, Piece]]:
    ends = ("lora_embedding_A", "lora_embedding_B") if "lora_embedding_A" in slots else ("lora_A", "lora_B")
    if stacks.is_stack(source.config, path):
        place = stacks.place(source.config, model, path)
        values = _values(source.config, "lora", place.path)
        found = keys.chosen(path, slots, {"A": "lora_A", "B": "lora_B"})
        return dataclasses.replace(place, config=values), stacks.pieces(source, place, found, values["r"])
    values = _values(source.config, method, path)
    wanted = {"A": ends[0], "B": ends[1]}
    wanted |= {"m": "lora_magnitude_vector"} if method == "dora" else {}
    wanted |= {"b": f"{ends[1]}.bias"} if values.get("bias") else {}
    found = keys.chosen(path, slots, wanted)
    a, b = (source.shapes[found[name]] for name in "AB")
    if len(a) != len(b) or len(a) < 2:
        raise ConfigConflict(f"`{path}`: factors of shapes {a} and {b} don't belong together")
    if b[1] != a[0] and len(a) > 2:
        raise Unsupported(f"`{path}` is a grouped convolution, whose factors {a} and {b} PEFT combines in its own way")
    if a[0] != values["r"] or b[1] != values["r"]:
        raise ConfigConflict(f"`{path}`: the configuration says rank {values['r']}, the tensors have {a} and {b}")
    kind = _kind(source.config, ends[0], len(a))
    target = placing.agreed(model, Target(path, kind, (b[0], *a[1:]), values))
    shapes = {"A": a, "B": b, "m": (b[0],), "b": (b[0],)}
    return target, {name: Piece(key, shapes[name]) for name, key in found.items()}


def _kind(config: Mapping[str, Any], slot: str, axes: int) -> str:
    if slot == "lora_embedding_A":
        return "embedding"
    if axes > 2:
        return f"conv{axes - 2}d"
    return "linear_t" if fields_of.flag(config, "fan_in_fan_out") else "linear"


# ---------------------------------------------------------------- writing


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets."""
    configs = {path: t.config for path, t in adapter.targets.items()}
    mixed = len({c["rslora"] for c in configs.values()}) > 1
    rslora = not mixed and next(iter(configs.values()))["rslora"]
    ranks = {path: c["r"] for path, c in configs.items()}
    alphas = {path: _plain_alpha(c) if mixed else c["alpha"] for path, c in configs.items()}
    modules = placing.ordered(p for p, t in adapter.targets.items() if t.kind not in stacks.KINDS)
    parameters = placing.ordered(p for p, t in adapter.targets.items() if t.kind in stacks.KINDS)
    made = {
        "peft_type": "LORA",
        "r": fields_of.common(ranks),
        "lora_alpha": fields_of.common(alphas),
        "rank_pattern": fields_of.patterns(ranks, fields_of.common(ranks)),
        "alpha_pattern": fields_of.patterns(alphas, fields_of.common(alphas)),
        "lora_dropout": fields_of.common({path: c["dropout"] for path, c in configs.items()}),
        "use_rslora": rslora,
        "use_dora": adapter.method == "dora",
        "lora_bias": _bias(configs),
        "fan_in_fan_out": any(t.kind == "linear_t" for t in adapter.targets.values()),
        "target_modules": modules,
    }
    return {**made, "target_parameters": parameters} if parameters else made


def _plain_alpha(config: Mapping[str, Any]) -> float:
    """The alpha that gives the same scale without rsLoRA."""
    alpha, r = config["alpha"], config["r"]
    return float(alpha * r**0.5 if config["rslora"] else alpha)


def _bias(configs: Mapping[str, Mapping[str, Any]]) -> bool:
    found = {bool(c.get("bias")) for c in configs.values()}
    if len(found) > 1:
        raise Unsupported("PEFT gives all targets a bias in `lora_B` or none; this adapter has one at some of them")
    return found.pop()


def lost(adapter: Adapter) -> list[str]:
    rates = {t.config["dropout"] for t in adapter.targets.values()}
    return ["different dropout rates of targets"] if len(rates) > 1 else []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    made = {}
    for path, target in adapter.targets.items():
        own = adapter.at(path)
        if target.kind in stacks.KINDS:
            at, own = stacks.nested(adapter, path), stacks.flat(own)
        else:
            at = path
        for name, tensor in own.items():
            slot = _slot(name, target.kind)
            shaped = (
                tensor.view(1, -1, *(1 for _ in target.shape[2:])) if name == "m" and len(target.shape) > 2 else tensor
            )
            made[f"{path}:{name}"] = keys.written(at, slot), shaped
    return made


def _slot(name: str, kind: str) -> str:
    if kind == "embedding" and name in "AB":
        return f"lora_embedding_{name}"
    return {"A": "lora_A", "B": "lora_B", "b": "lora_B.bias", "m": "lora_magnitude_vector"}[name]
