"""Older versions of PEFT: what they read. Versions 0.6 to 0.13 raise at a field that they don't know.

The tables say since which minor version of 0.x a type and a field are there, as the configuration classes of PEFT's
releases 0.2 to 0.21 have them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: The oldest that reads safetensors, and the newest that is known.
OLDEST, NEWEST = 4, 21
#: The first that looks for a rank and an alpha apart, and at the beginning of a path.
PATTERNS = 14
#: Types, where they are younger than that. The rotations of OFT have other names before 0.16; VeRA is there since 0.11,
#: but before 0.21 draws its projections from its own seed again, whatever the file has.
TYPES = {"LOHA": 6, "LOKR": 6, "TRAINABLE_TOKENS": 15, "OFT": 16, "SHIRA": 17, "VERA": 21}
#: The first that multiplies a LoKr by its scale.
SCALED = 14
#: Fields, where they are younger than their type.
FIELDS: Mapping[str, Mapping[str, int]] = {
    "": {"peft_version": 18, "exclude_modules": 14, "runtime_config": 12},
    "LORA": {
        "rank_pattern": 6, "alpha_pattern": 6, "megatron_config": 7, "megatron_core": 7, "loftq_config": 7,
        "use_rslora": 8, "use_dora": 9, "layer_replication": 10, "eva_config": 14, "lora_bias": 14,
        "trainable_token_indices": 15, "corda_config": 15, "use_qalora": 16, "qalora_group_size": 16,
        "target_parameters": 17, "alora_invocation_tokens": 18, "arrow_config": 18, "ensure_weight_tying": 18,
        "lora_ga_config": 19, "use_bdlora": 19, "velora_config": 20, "monteclora_config": 20, "kasa_config": 21,
    },
    "LOKR": {"rank_dropout_scale": 14},
    "PREFIX_TUNING": {"init_weights": 19, "modules_to_save": 17},
    "PROMPT_TUNING": {"tokenizer_kwargs": 7, "modules_to_save": 17},
    "P_TUNING": {"modules_to_save": 17},
}  # fmt: skip
#: Fields that say how an adapter was begun or trained, and nothing of what it does.
IDLE = frozenset({
    "peft_version", "runtime_config", "eva_config", "corda_config", "lora_ga_config", "loftq_config", "velora_config",
    "megatron_core", "qalora_group_size", "ensure_weight_tying", "tokenizer_kwargs", "init_weights",
    "rank_dropout_scale",
})  # fmt: skip


def named(text: str) -> int:
    """The minor version that `0.MINOR` names. Raises `UsageError`."""
    found = re.fullmatch(r"0\.(\d{1,3})(\.\d+)?", text)
    if found is None or not OLDEST <= int(found[1]) <= NEWEST:
        raise UsageError("the version of PEFT", got=text, want=f"one of 0.{OLDEST} to 0.{NEWEST}")
    return int(found[1])


def smallest(config: Mapping[str, Any], adapter: Adapter, minor: int) -> dict[str, Any]:
    """What of an adapter's configuration 0.`minor` knows, without what is empty. Raises `Unsupported` where that says
    less.
    """
    kind = str(config["peft_type"])
    if minor < PATTERNS and kind in {"LORA", "LOHA", "LOKR"}:
        config = {**config, **_spelt_out(config, adapter)}
    if TYPES.get(kind, 0) > minor:
        raise _young(f"{kind} as it is written", TYPES[kind], minor)
    if kind == "LOKR" and minor < SCALED and any(t.config["alpha"] != t.config["r"] for t in adapter.targets.values()):
        raise _young("scale of a LoKr", SCALED, minor)
    since = {**FIELDS[""], **FIELDS.get("LORA" if kind == "ADALORA" else kind, {})}
    if kind == "ADALORA":
        since.pop("rank_pattern")
    young = {name for name in config if since.get(name, 0) > minor}
    telling = sorted(name for name in young if config[name] and name not in IDLE)
    if telling:
        raise _young(f"`{telling[0]}`", since[telling[0]], minor)
    return {name: value for name, value in config.items() if name not in young and value not in (None, {}, [])}


def _spelt_out(config: Mapping[str, Any], adapter: Adapter) -> dict[str, Any]:
    """Patterns as whole paths, which old versions look up when no pattern fits; they use the first that does for rank
    and alpha alike.
    """
    made: dict[str, Any] = {}
    for field, ours, common in (("rank_pattern", "r", config["r"]), ("alpha_pattern", "alpha", _alpha(config))):
        if config.get(field):
            made[field] = {p: t.config[ours] for p, t in adapter.targets.items() if t.config[ours] != common}
    keys = {path for table in made.values() for path in table}
    if any(path.endswith(f".{key}") for path in adapter.targets for key in keys):
        raise _young("patterns that tell a module from one inside another of the same name", PATTERNS, 13)
    return made


def _alpha(config: Mapping[str, Any]) -> object:
    return config.get("lora_alpha", config.get("alpha"))


def _young(what: str, since: int, minor: int) -> Unsupported:
    return Unsupported(
        f"PEFT 0.{minor} has no {what}, which came with 0.{since}",
        hint=f"write it for 0.{since} or later, or as plain LoRA of one rank (`adaptr resize`, `--method lora`)",
    )
