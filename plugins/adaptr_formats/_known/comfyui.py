"""ComfyUI's LoRA."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Comfyui(Format):
    name = "comfyui"
    tool = "ComfyUI"
    called = "a ComfyUI LoRA"
    marks = Marks(keys=(r"diffusion_model\..*\.lora_(down|up)\.weight",))
