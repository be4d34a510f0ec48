"""All types that PEFT has, why some have no file here, and those whose folders do not hold what was trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adaptr.errors import AdaptrError, UnknownFormat, Unsupported, phrases, shown

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


def refusal(peft_type: str, config: Mapping[str, Any], read: Iterable[str]) -> AdaptrError:
    """Why a type that is none of those `read` is not, and the way on."""
    if peft_type in LOST:
        fact, way = LOST[peft_type]
        return Unsupported(fact, hint=way.format(adapters=_experts(config)))
    if peft_type in UNREAD:
        return Unsupported(
            f"this is a PEFT adapter of type {peft_type}, which adaptr can't read yet: {UNREAD[peft_type]}",
            want=", ".join(read),
            hint="merge it with PEFT, and `adaptr extract` a LoRA from the result",
        )
    return UnknownFormat("`peft_type`", got=f"`{peft_type[:40]}`, which is no type of PEFT's", want=", ".join(read))


def _experts(config: Mapping[str, Any]) -> str:
    """Where the adapters were that an X-LoRA was made of, as its configuration has it."""
    said = config.get("adapters")
    places = said.values() if isinstance(said, Mapping) else ()
    return phrases.listed(f"`{shown(str(place))}`" for place in places) or "nowhere"
