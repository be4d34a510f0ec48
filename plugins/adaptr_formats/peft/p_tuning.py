"""PEFT's P_TUNING: method `prompt`. A file holds what the encoder gave at the end, which is all that is used of it."""

from __future__ import annotations

from adaptr_formats.peft.prompt_tuning import PromptTuning


class PTuning(PromptTuning):
    name = "p-tuning"
    methods = ()  # a prompt is written as PROMPT_TUNING, unless it came as this
