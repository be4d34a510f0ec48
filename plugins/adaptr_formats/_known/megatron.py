"""Megatron's and NeMo's adapters."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Megatron(Format):
    name = "megatron"
    tool = "Megatron"
    called = "a Megatron or NeMo adapter"
    way = "save it as PEFT's with the tool that wrote it (`AutoBridge.save_hf_adapter` of Megatron-Bridge)"
    marks = Marks(keys=(r".*\.adapter\.linear_(in|out)\.weight|.*\.lora_\w+_adapter\..*",))
