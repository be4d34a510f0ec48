"""PEFT's WAVEFT: method `waveft`. Of PEFT's wavelets the four smallest of Daubechies are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field
from adaptr_formats.peft._spectrum import Spectral

if TYPE_CHECKING:
    from adaptr.adapter import Adapter


class WaveFT(Spectral):
    name = "waveft"
    methods = ("waveft",)
    slots = {"c": "waveft_spectrum"}
    table = {
        "s": Field("scaling", default=25.0, called="scales"),
        "loc_seed": Field("random_loc_seed", int, 777, called="seeds of places"),
    }

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        from adaptr_plugins.delta.waveft import FILTERS

        family = fields_of.text(config, "wavelet_family") or "db1"
        plain = config.get("use_idwt") is False
        if not plain and family not in FILTERS:
            raise Unsupported(
                "`wavelet_family`",
                got=f"`{family[:20]}`",
                want=f"one of {', '.join(FILTERS)}",
                hint="merge it with PEFT, and `adaptr extract` from the result",
            )
        return {**super().values(config, path), "wavelet": "" if plain else family}

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        family = fields_of.common({path: target.config["wavelet"] for path, target in adapter.targets.items()})
        counts = {"proportional_parameters": False}
        said = {"wavelet_family": family, "use_idwt": True} if family else {"use_idwt": False}
        return {**super().fields(adapter), **counts, **said}

    def lost(self, adapter: Adapter) -> list[str]:
        several = len({target.config["wavelet"] for target in adapter.targets.values()}) > 1
        return [*super().lost(adapter), *(["different wavelets of targets"] if several else [])]
