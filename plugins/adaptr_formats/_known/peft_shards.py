"""PEFT's adapters whose weights are split over several files."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class PeftShards(Format):
    name = "peft-shards"
    tool = "PEFT"
    called = "a PEFT adapter in several shards"
    way = "put its shards into one `adapter_model.safetensors`: PEFT itself neither writes nor reads them apart"
    marks = Marks(files=("adapter_model.safetensors.index.json",))
