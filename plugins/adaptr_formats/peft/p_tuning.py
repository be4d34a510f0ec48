"""PEFT's P_TUNING: method `p-tuning`. A file holds what the encoder gave, which is all that is used of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptr_formats.peft.prompt_tuning import PromptTuning


class PTuning(PromptTuning):
    name = "p-tuning"
    methods = ("p-tuning",)

    def own(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"encoder": "none"}
