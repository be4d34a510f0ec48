"""Checkpoints of torch.distributed, as Megatron and NeMo 2 write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import Format, Marks

if TYPE_CHECKING:
    from adaptr.foreign.seen import Seen


class Megatron(Format):
    name = "megatron"
    tool = "Megatron"
    called = "a distributed checkpoint, as Megatron and NeMo 2 write them"
    way = (
        "its index is a pickle of classes, which adaptr opens none of: save the adapter as PEFT's with the tool that "
        "wrote it (NeMo 2: `nemo llm export path=FOLDER output_path=OUT target=hf-peft`, in Python `llm.export_ckpt`; "
        "Megatron-Bridge: `AutoBridge.export_adapter_ckpt(FOLDER, OUT)`, of a live model `save_hf_adapter`)"
    )
    marks = Marks(files=("__0_0.distcp", "adapter_metadata.json"))

    def recognises(self, seen: Seen) -> bool:
        """Also the folder around it, in which NeMo 2 has it as `weights`."""
        inside = seen.path / "weights"
        return super().recognises(seen) or any((inside / name).is_file() for name in (".metadata", *self.marks.files))
