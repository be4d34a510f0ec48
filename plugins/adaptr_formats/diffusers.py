"""diffusers' LoRA, in the three ways it has had of naming tensors: attention processors, 0.2x, and PEFT's.

Its configuration is `lora_adapter_metadata` in the header since 0.34; without it every version takes alpha = rank.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import kinds
from adaptr.errors import ConfigConflict, ForeignError, Unsupported, phrases
from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written
from adaptr.untrusted import json_object

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces import dotted

METADATA = "lora_adapter_metadata"
SLOTS = {"A": "lora_A.weight", "B": "lora_B.weight", "b": "lora_B.bias", "m": "lora_magnitude_vector"}
_FACTOR = r"\.lora_[AB]\.([^.]+\.)?weight"
#: Initialisations that change the base: the file is for what they left of it.
_CHANGED = ("pissa", "olora", "corda", "loftq", "lora_ga")


class Diffusers(Format):
    name = "diffusers"
    tool = "diffusers"
    called = "a diffusers LoRA"
    folder = False
    asks = frozenset({"alpha", "scale"})
    marks = Marks(
        suffixes=(".safetensors",),
        files=("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"),
        keys=(
            r".*(_lora\.(down|up)|\.lora\.(down|up)|lora_linear_layer\.(down|up))\.weight",
            rf"(unet|transformer|transformer_2|prior|text_encoder\w*)\..*{_FACTOR}",
            rf"(down_blocks|up_blocks|mid_block|(single_)?transformer_blocks|(double|single)_blocks)\..*{_FACTOR}",
        ),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.pieces import dotted

        def unsaid(metadata: Mapping[str, str]) -> dotted.Unsaid:
            if METADATA not in metadata:
                return dotted.by_rank
            supplied.refuse(f"the file's `{METADATA}` has the alpha", "alpha", "scale")
            return _Configured(_configs(metadata[METADATA]))

        return dotted.read(self.weights(path), base, self.name, unsaid, supplied)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr.foreign import saving

        _require_written(adapter)
        return [*saving.lost(adapter), *(f"the whole parameter `{path}`" for path in adapter.replaced_paths)]

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr.files import replacing
        from adaptr.foreign import same, saving
        from adaptr.foreign.pieces import low_rank

        _require_written(adapter)
        plain = low_rank.folded(saving.plain(adapter))
        found = {f"{path}:{name}": (f"{path}.{SLOTS[name]}", value)
                 for path in plain.targets for name, value in same.at(plain, path).items()}  # fmt: skip
        kept = dict(adapter.foreign.get(self.name, {}).get("metadata", {}))
        said = {"format": "pt", **kept, METADATA: _described(adapter, kept.get(METADATA, "{}"))}
        with replacing(out, force) as file:
            saving.write(file, dict(found.values()), {**said, saving.ABOUT: saving.about(adapter)})
        return Written(out, {ours: theirs for ours, (theirs, _) in found.items()})


def _require_written(adapter: Adapter) -> None:
    """Raises `Unsupported` for what diffusers has no LoRA for."""
    from adaptr.foreign.pieces import dotted

    if adapter.method not in ("lora", "dora"):
        raise Unsupported(f"diffusers has no equivalent of `{adapter.method}`", hint="it can hold lora, dora")
    for path, target in adapter.targets.items():
        if path.partition(".")[0] not in dotted.COMPONENTS:
            raise Unsupported(
                f"`{path}` begins with no component of a pipeline, such as `unet` or `text_encoder`",
                hint="choose another format with `--to`",
            )
        if target.kind not in kinds.LAYERS | kinds.CONVOLUTIONS:
            raise Unsupported(f"`{path}`: diffusers has no LoRA for a `{target.kind}`", hint=phrases.OWN)


def _described(adapter: Adapter, kept: str) -> str:
    """`lora_adapter_metadata`: a LoraConfig for each component, with what it said before where that is still true."""
    from adaptr.foreign.peft import config as fields_of

    before = json_object(kept.encode(), f"`{METADATA}`", ForeignError)
    found: dict[str, Any] = {}
    for component in sorted({path.partition(".")[0] for path in adapter.targets}):
        configs = {path.partition(".")[2]: target.config for path, target in adapter.targets.items()
                   if path.startswith(f"{component}.")}  # fmt: skip
        rslora = {bool(c["rslora"]) for c in configs.values()}
        if len(rslora) > 1:
            raise Unsupported(f"`{component}`: diffusers has one rule of scales for all its modules", hint=phrases.OWN)
        said = fields_of.ranks(configs, "lora_alpha")
        said |= {"use_rslora": rslora.pop(), "use_dora": adapter.method == "dora", "peft_type": "LORA"}
        said |= {"lora_bias": any(c.get("bias") for c in configs.values())}
        said |= {"lora_dropout": max(float(c["dropout"]) for c in configs.values())}
        old = {name.partition(".")[2]: value for name, value in before.items() if name.startswith(f"{component}.")}
        same_places = old and all(_says(old, path, config) for path, config in configs.items())
        made = {**said, "target_modules": sorted(configs)} if not same_places else {}
        found |= {f"{component}.{name}": value for name, value in {**old, **made}.items()}
    return json.dumps(found, indent=2, sort_keys=True)


def _says(old: Mapping[str, Any], path: str, config: Mapping[str, Any]) -> bool:
    """Whether a configuration still says a module's rank and scale."""
    from adaptr.foreign.peft import config as fields_of

    said = fields_of.ranked(old, path, "r", "lora_alpha")
    return said == {"r": config["r"], "alpha": config["alpha"]} and bool(old.get("use_rslora")) == config["rslora"]


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
    from adaptr_formats.peft import _variants

    found: dict[str, dict[str, Any]] = {}
    for name, value in json_object(text.encode(), f"`{METADATA}`", ForeignError).items():
        component, _, field = name.partition(".")
        found.setdefault(component, {})[field] = value
    for config in found.values():
        fields_of.refuse(config, {**types.of_method("lora").refused, **_variants.OTHERWISE})
        init = config.get("init_lora_weights")
        if isinstance(init, str) and init.lower().startswith(_CHANGED):
            raise Unsupported(
                f"it was initialised by `{init}`, which changes the base: it is for what that left of it",
                hint="merge it where it was trained",
            )
    return found
