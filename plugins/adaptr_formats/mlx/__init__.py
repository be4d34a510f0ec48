"""MLX-LM's adapters: `adapters.safetensors` with `adapter_config.json`, and the `.npz` without any that was before.

A layer's factors are `lora_a` (in, r) and `lora_b` (r, out), its magnitudes `m`; all have one rank and one `scale`,
which stands for alpha / r. MLX-LM puts factors on the modules that `keys` names of the last `num_layers` layers, of all
for -1; those that the file lacks change nothing. `full` has whole parameters of these layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written
from adaptr.foreign.seen import CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen


class Mlx(Format):
    name = "mlx"
    tool = "MLX"
    called = "an MLX adapter"
    asks = frozenset({"alpha", "scale"})
    marks = Marks(
        files=("adapters.safetensors", "adapters.npz"),
        config=("fine_tune_type", "lora_parameters"),
        keys=(r".*\.lora_[ab]",),
    )

    def locate(self, seen: Seen) -> Path | None:
        """Also a file without a configuration, by the names in it."""
        found = self.marks.locate(seen)
        alone = found is None and not seen.folder and not seen.ours and not (seen.path.parent / CONFIG).is_file()
        return seen.path if alone and self.marks.named(seen.names) else found

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.mlx.reading import read

        return read(self.weights(path), base, supplied)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr_formats.mlx.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr_formats.mlx.writing import save

        return save(adapter, out, force)

    def about(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        said = config.get("lora_parameters")
        return {
            "method": str(config.get("fine_tune_type") or "lora"),
            "rank": str(said.get("rank") or "") if isinstance(said, Mapping) else "",
            "base": str(config.get("model") or ""),
        }
