"""Which of PEFT's types is which method, and who translates. A new type is a line here and a module beside.

A translator is a module with `read(source, model)`, `fields(adapter)`, `lost(adapter)` and `tensors(adapter)`.
"""

from __future__ import annotations

import importlib
from typing import Any

from adaptr.errors import UnknownFormat, Unsupported

#: PEFT's type to the module that translates it.
TYPES = {
    "LORA": "lora",
    "IA3": "ia3",
    "PROMPT_TUNING": "prompt",
    "P_TUNING": "prompt",
    "PREFIX_TUNING": "prefix",
    "ADALORA": "adalora",
    "LOHA": "loha",
    "LOKR": "lokr",
    "VERA": "vera",
    "OFT": "oft",
    "SHIRA": "shira",
}
#: adaptr's method to the module that translates it.
METHODS = {
    "lora": "lora",
    "dora": "lora",
    "ia3": "ia3",
    "prompt": "prompt",
    "prefix": "prefix",
    "adalora": "adalora",
    "loha": "loha",
    "lokr": "lokr",
    "vera": "vera",
    "oft": "oft",
    "shira": "shira",
}
#: Types whose files leave open which layers of the base they are for: its modules are looked at where it is given.
OPEN = frozenset({"PREFIX_TUNING", "ADALORA", "LOHA", "LOKR", "VERA", "OFT", "SHIRA"})
#: Types that trim ranks to zero, so that empty tensors are no accident.
TRIMMED = frozenset({"ADALORA"})
#: Types whose whole parameters are saved under `base_model.` and not `base_model.model.`.
PROMPT_TYPES = frozenset({"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"})
#: Types that PEFT 0.21 has and adaptr can't read yet.
LATER = frozenset({
    "BOFT", "HRA", "FOURIERFT", "VBLORA", "LN_TUNING", "TRAINABLE_TOKENS", "ADAPTION_PROMPT", "MISS", "BONE",
    "RANDLORA", "ROAD", "C3A", "DELORA", "HIRA", "GRALORA", "WAVEFT", "XLORA", "POLY", "CPT", "CARTRIDGE",
    "MULTITASK_PROMPT_TUNING", "OSF", "PSOFT", "DEFT", "GLORA", "LILY", "PEANUT", "BEFT", "FROD", "TINYLORA",
    "UNILORA", "SUPERTUNING", "ADAMSS", "PVERA", "SHADOW",
})  # fmt: skip


def of_type(peft_type: str) -> Any:
    """The translator of a PEFT type. Raises `Unsupported` for a later one, `UnknownFormat` for none of PEFT's."""
    if peft_type in TYPES:
        return _module(TYPES[peft_type])
    if peft_type in LATER:
        raise Unsupported(
            f"this is a PEFT adapter of type {peft_type}, which adaptr can't read yet; it reads {_said(TYPES)}"
        )
    raise UnknownFormat(f"`peft_type` is `{peft_type[:40]}`, which is no type of PEFT's; adaptr reads {_said(TYPES)}")


def of_method(method: str) -> Any:
    """The translator of a method. Raises `Unsupported` where PEFT has nothing like it."""
    if method not in METHODS:
        raise Unsupported(f"PEFT has no equivalent of `{method}`; it can hold {_said(METHODS)}")
    return _module(METHODS[method])


def _module(name: str) -> Any:
    return importlib.import_module(f"adaptr.foreign.peft.{name}")


def _said(names: dict[str, str]) -> str:
    return ", ".join(names)
