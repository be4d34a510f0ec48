"""Checkpoints of torch.distributed, as Megatron and NeMo 2 write them."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Megatron(Format):
    name = "megatron"
    tool = "Megatron"
    called = "a distributed checkpoint, as Megatron and NeMo 2 write them"
    way = (
        "its index is a pickle of classes, which adaptr opens none of: save the adapter as PEFT's with the tool that "
        "wrote it (`AutoBridge.save_hf_adapter` of Megatron-Bridge, `llm.peft.export_lora` of NeMo)"
    )
    marks = Marks(files=("__0_0.distcp", "adapter_metadata.json"))
