"""All types that PEFT has, why some have no file here, and those whose folders do not hold what was trained."""

from __future__ import annotations

from collections.abc import Mapping

#: Types that PEFT 0.21.2 has.
PEFT = frozenset({
    "ADALORA", "ADAMSS", "ADAPTION_PROMPT", "BEFT", "BOFT", "C3A", "CARTRIDGE", "CPT", "DEFT", "DELORA", "FOURIERFT",
    "FROD", "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LILY", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS",
    "MULTITASK_PROMPT_TUNING", "OFT", "OSF", "PEANUT", "POLY", "PREFIX_TUNING", "PROMPT_TUNING", "PSOFT", "PVERA",
    "P_TUNING", "RANDLORA", "ROAD", "SHADOW", "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA",
    "VBLORA", "VERA", "WAVEFT", "XLORA",
})  # fmt: skip

#: Why those of them that have no file here can't be read, and those that earlier versions had.
UNREAD: Mapping[str, str] = {
    "ADAMSS": "which rows of a weight belong together is not in its files: PEFT finds that anew by scikit-learn's "
    "k-means over singular vectors, and other rows load without a word",
    "BONE": "PEFT has it as MISS now, with `init_weights` of `bat`",
    "LILY": "what it computes for a text depends on the other texts of the batch, on padding and on the cache",
    "SHADOW": "its method, a second network beside the model, is not here yet",
}

#: Types whose folders do not hold what was trained, and what can be done.
LOST = {
    "XLORA": (
        "PEFT's own X-LoRA folders lose the gate: it is not saved where PEFT loads it from, which gives a fresh one",
        "learn a gate over the adapters that it was made of (`adaptr gate --help`); its configuration says that they "
        "were {adapters}",
    ),
}
