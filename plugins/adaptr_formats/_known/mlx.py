"""MLX-LM's adapters."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Mlx(Format):
    name = "mlx"
    tool = "MLX"
    called = "an MLX adapter"
    marks = Marks(
        files=("adapters.safetensors", "adapters.npz"),
        config=("fine_tune_type", "lora_parameters"),
        keys=(r".*\.lora_[ab]",),
    )
