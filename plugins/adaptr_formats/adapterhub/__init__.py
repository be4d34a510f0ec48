"""AdapterHub's folders: `adapter_config.json` with `adapter.safetensors` or `pytorch_adapter.bin`, and of a prediction
head `head_config.json` with `model_head.safetensors` or `pytorch_model_head.bin`.

Its methods are configurations of bottlenecks, of LoRA (of which (IA)3 and VeRA are forms), of prefixes and of unions of
these. What one of them computes depends on where its library puts it in which model, which is `places`. What neither
has a field in an adapter nor changes what it computes is kept in `adapter.foreign["adapterhub"]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen
    from adaptr.host.tree import Block


class Adapterhub(Format):
    name = "adapterhub"
    tool = "AdapterHub"
    called = "an AdapterHub adapter"
    asks = frozenset({"reft"})
    marks = Marks(
        files=("adapter.safetensors", "pytorch_adapter.bin"),
        config=("model_class",),
        keys=(r".*\.(adapters|loras|refts|prefix_tunings|prompt_tunings)\.[^.]+\..*",),
    )

    def locate(self, seen: Seen) -> Path | None:
        """What is called as adapters of others can be is this tool's by what lies beside it alone."""
        from adaptr_formats.adapterhub import setups

        if (arranged := setups.locate(seen)) is not None:
            return arranged
        found = super().locate(seen)
        known = found is not None and self.marks.configured(seen.config) and "head" not in found.name
        return found if known else None

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.adapterhub import reading, setups

        weights = self.weights(path)
        if weights.name in setups.ADAPTERS and not (path / setups.SETUP).is_file():
            return reading.read(weights, base, supplied)
        return reading.arrangement(path, base, supplied)

    def block(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Block:
        from adaptr_formats.adapterhub import reading, setups

        return reading.block(path, base, supplied) if (path / setups.SETUP).is_file() else super().block(path)

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        """The base's type, width and layers, which its configuration goes by."""
        from adaptr_formats.adapterhub.writing import based

        return based(adapter, base)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr_formats.adapterhub.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr_formats.adapterhub.writing import save

        return save(adapter, out, force)

    def about(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        said = config.get("config")
        own = said if isinstance(said, dict) else {}
        return {
            "method": str(own.get("architecture") or "bottleneck"),
            "rank": str(own.get("r") or ""),
            "base": str(config.get("model_name") or ""),
        }
