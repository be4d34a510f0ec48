"""What OpenDelta calls its files, and what it inserts: by its type, the module's name and what is within."""

SETTINGS, WEIGHTS = "config.json", "pytorch_model.bin"
_BOTTLENECK = frozenset(f"modulelist.{end}_proj.{name}" for end in ("down", "up") for name in ("weight", "bias"))
_FACTORS = frozenset(f"{end}_sampler.{name}" for end in ("down", "up") for name in ("W_left", "W_right", "b"))
_RULES = ("phm_rule", "phm_rule_left", "phm_rule_right", "W")
_HYPERCOMPLEX = _FACTORS | {f"{end}_sampler.{name}" for end in ("down", "up") for name in _RULES}
_NETWORK = frozenset({"wte.weight", *(f"control_trans.{n}.{name}" for n in (0, 2) for name in ("weight", "bias"))})
SLOTS = {
    "lora": {"lora": frozenset({"lora_A", "lora_B"})},
    "adapter": {"adapter": _BOTTLENECK},
    "parallel_adapter": {"parallel_adapter": _BOTTLENECK},
    "low_rank_adapter": {"low_rank_adapter": _FACTORS},
    "compacter": {"compactor": _HYPERCOMPLEX},
    "prefix": {"prefix": frozenset({"past_key", "past_value"}), "reparams": _NETWORK},
    "soft_prompt": {"soft_prompt_layer": frozenset({"soft_embeds"})},
    "bitfit": {},
}
