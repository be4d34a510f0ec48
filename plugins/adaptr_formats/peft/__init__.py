"""PEFT folders: `adapter_config.json` with `adapter_model.safetensors` or `.bin`, read and written.

Each of PEFT's types is a file here. What adaptr does not derive from an adapter is kept in `adapter.foreign["peft"]`,
so that a file which goes there and back loses no field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.foreign import NOTHING, Format, Marks, Supplied
from adaptr.foreign.seen import CONFIG, Seen

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.foreign import Written
    from adaptr.foreign.format import BaseModel

#: The list of modules in a folder of sentence-transformers, and what the folders of these are called.
SENTENCES, MODULE = "modules.json", re.compile(r"\d+_\w+")


class Peft(Format):
    name = "peft"
    tool = "PEFT"
    called = "a PEFT adapter"
    #: The version 0.`minor` that it is written for, None for the newest.
    minor: int | None = None
    asks = frozenset({"task", "initial"})
    marks = Marks(
        files=("adapter_model.safetensors", "adapter_model.bin"),
        config=("peft_type",),
        keys=(
            r".*\.(ia3_l|lora_(A|B)(\.[^.]+)?\.weight|lora_embedding_[AB])|prompt_embeddings",
            r"base_model\.model\..*",
        ),
        others=(
            r"(unet|transformer|text_encoder\w*|diffusion_model)\..*\.lora_[AB]\.weight",
            r"(down_blocks|up_blocks|mid_block|(single_)?transformer_blocks|(double|single)_blocks)\..*"
            r"\.lora_[AB]\.([^.]+\.)?weight",
        ),
    )

    def locate(self, seen: Seen) -> Path | None:
        """Of a model of sentence-transformers, the adapter in the one of its modules that has one."""
        found = super().locate(seen)
        if found is not None or SENTENCES not in seen.files:
            return found
        inside = [path.parent for path in seen.path.glob(f"*/{CONFIG}") if MODULE.fullmatch(path.parent.name)]
        return super().locate(Seen(inside[0])) if len(inside) == 1 else None

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.peft.reading import read

        begun = None if supplied.initial is None else self.weights(Path(supplied.initial))
        return read(self.weights(path), base, supplied, begun)

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        from adaptr.foreign.peft import types

        named = adapter.method in types.methods()
        return types.of_method(adapter.method).based(adapter, base) if named else adapter

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr.foreign.peft.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr.foreign.peft.writing import save

        return save(adapter, out, force, self.minor)

    def of(self, version: str) -> Peft:
        from adaptr.foreign.peft import versions

        made = Peft()
        made.minor = versions.named(version)
        return made

    def require(self, adapter: Adapter, base: BaseModel | None) -> None:
        from adaptr.foreign.peft import promises

        found = promises.of(adapter)
        if found is not None:
            promises.require(found, base)

    def unkept(self, file: Path) -> tuple[str, ...]:
        from adaptr.foreign.peft import told

        return ("model card (too large, or no text)",) if told.unkept(file.parent) else ()

    def about(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        return {
            "method": str(config.get("peft_type", "")).lower(),
            "rank": str(config.get("r", "")),
            "base": str(config.get("base_model_name_or_path") or ""),
        }
