"""diffusers' LoRA, in the three ways it has had of naming tensors: attention processors, 0.2x, and PEFT's.

Its configuration is `lora_adapter_metadata` in the header since 0.34; without it every version takes alpha = rank.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, ForeignError, TrainedOtherwise, Unsupported, phrases
from adaptr.foreign import Format, Marks
from adaptr.foreign.pieces import dotted, single
from adaptr.untrusted import json_object

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen

METADATA = "lora_adapter_metadata"
_FACTOR = r"\.lora_[AB]\.([^.]+\.)?weight"
#: Initialisations that change the base: the file is for what they left of it.
_CHANGED = ("pissa", "olora", "corda", "loftq", "lora_ga")


class Diffusers(Format):
    name = "diffusers"
    tool = "diffusers"
    called = "a diffusers LoRA"
    folder = False
    marks = Marks(
        files=("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"),
        keys=(
            r".*(_lora\.(down|up)|\.lora\.(down|up)|lora_linear_layer\.(down|up))\.weight",
            rf"(unet|transformer|transformer_2|prior|text_encoder\w*)\..*{_FACTOR}",
            rf"(down_blocks|up_blocks|mid_block|(single_)?transformer_blocks|(double|single)_blocks)\..*{_FACTOR}",
        ),
    )

    def locate(self, seen: Seen) -> Path | None:
        return single.locate(seen, self.marks)

    def read(self, path: Path, base: BaseModel | None = None) -> Adapter:
        return dotted.read(self.weights(path), base, self.name, _unsaid)


def _unsaid(metadata: Mapping[str, str], keys: Iterable[str]) -> dotted.Unsaid:
    """The scale by the configuration of a component, or 1, with a warning where an alpha may have been lost."""
    if METADATA in metadata:
        return _Configured(_configs(metadata[METADATA]))
    scaled = any(key.endswith(".alpha") for key in keys)
    if not scaled and any(".lora_A." in key or ".lora_magnitude_vector" in key for key in keys):
        warnings.warn(
            f"the file has neither alphas nor `{METADATA}`: it is read at the scale 1, as diffusers reads it, and the "
            "alpha that it was trained with is not known",
            TrainedOtherwise,
            stacklevel=2,
        )
    return dotted.by_rank


class _Configured:
    """The scale of a module by its component's LoraConfig."""

    def __init__(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        self.configs = configs

    def __call__(self, path: str, rank: int) -> Mapping[str, Any]:
        from adaptr.foreign.peft import config as fields_of

        component, _, inner = path.partition(".")
        config = self.configs.get(component)
        if config is None:
            raise ConfigConflict(f"`{METADATA}` says nothing of `{component}`, which the file has", hint=phrases.AGAIN)
        said = fields_of.ranked(config, inner, "r", "lora_alpha")
        if said["r"] != rank:
            raise ConfigConflict(
                f"`{path}`",
                verb="has",
                got=f"rank {rank}",
                want=f"{said['r']}, as `{METADATA}` says",
                hint=phrases.AGAIN,
            )
        return {"alpha": said["alpha"], "rslora": fields_of.flag(config, "use_rslora")}


def _configs(text: str) -> dict[str, dict[str, Any]]:
    """{component: its LoraConfig}. Raises `Unsupported` for what changes the meaning of the tensors."""
    from adaptr.foreign.peft import config as fields_of
    from adaptr.foreign.peft import types

    found: dict[str, dict[str, Any]] = {}
    for name, value in json_object(text.encode(), f"`{METADATA}`", ForeignError).items():
        component, _, field = name.partition(".")
        found.setdefault(component, {})[field] = value
    for config in found.values():
        fields_of.refuse(config, types.of_method("lora").refused)
        init = config.get("init_lora_weights")
        if isinstance(init, str) and init.lower().startswith(_CHANGED):
            raise Unsupported(
                f"it was initialised by `{init}`, which changes the base: it is for what that left of it",
                hint="merge it where it was trained",
            )
    return found
