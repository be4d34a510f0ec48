"""All types that PEFT has, and those of them whose folders do not hold what was trained."""

from __future__ import annotations

#: Types that PEFT 0.21 has: those of them that have no file are refused as ones that can't be read yet.
PEFT = frozenset({
    "ADALORA", "IA3", "LOHA", "LOKR", "LORA", "OFT", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "SHIRA", "VERA",
    "BOFT", "HRA", "FOURIERFT", "VBLORA", "LN_TUNING", "TRAINABLE_TOKENS", "ADAPTION_PROMPT", "MISS", "BONE",
    "RANDLORA", "ROAD", "C3A", "DELORA", "HIRA", "GRALORA", "WAVEFT", "XLORA", "POLY", "CPT", "CARTRIDGE",
    "MULTITASK_PROMPT_TUNING", "OSF", "PSOFT", "DEFT", "GLORA", "LILY", "PEANUT", "BEFT", "FROD", "TINYLORA",
    "UNILORA", "SUPERTUNING", "ADAMSS", "PVERA", "SHADOW",
})  # fmt: skip

#: Types whose folders do not hold what was trained, and what can be done.
LOST = {
    "XLORA": (
        "PEFT's own X-LoRA folders lose the gate: it is not saved where PEFT loads it from, which gives a fresh one",
        "learn a gate over the adapters that it was made of (`adaptr gate --help`); its configuration says that they "
        "were {adapters}",
    ),
}
