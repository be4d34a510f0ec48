"""`adapter_config.json` as MLX-LM writes it: all arguments of the training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.adapter import public
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.supplied import Supplied

if TYPE_CHECKING:
    from torch import nn

LORA, DORA, FULL = "lora", "dora", "full"
PARAMETERS = "lora_parameters"
#: The field with the base: its name, or where it lay.
MODEL = "model"
#: A module of a layer: which, and what it is called there.
LAYER = re.compile(r"(?P<stack>.*?\.)(?P<number>\d+)\.(?P<name>.+)", re.DOTALL)
#: Where a scale that the file does not hold is to be found.
WAY = (
    "MLX-LM's `scale` is in the configuration of the training; mlx-examples' `lora.py`, which wrote no configuration, "
    "had 20 and later 10"
)


@dataclass(frozen=True)
class Said:
    """What a configuration says. `method`: "" where there is none. `scale`, `rank`: None where they are not said."""

    config: Mapping[str, Any]
    method: str
    scale: float | None
    rank: int | None
    dropout: float
    keys: frozenset[str] | None
    layers: int

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Said:
        """Raises `ConfigConflict` for fields of the wrong type, `Unsupported` for another way of tuning."""
        if config is None:
            return cls({}, "", None, None, 0.0, None, -1)
        method = fields_of.text(config, "fine_tune_type") or LORA
        if method not in (LORA, DORA, FULL):
            raise Unsupported(
                f"`fine_tune_type` is `{method}`", hint=f"adaptr knows {phrases.listed((LORA, DORA, FULL))}"
            )
        said = config.get(PARAMETERS)
        if not isinstance(said, Mapping | None):
            raise fields_of.misread(PARAMETERS, said, "an object")
        said = said or {}
        layers = fields_of.number(config, "num_layers", fields_of.number(config, "lora_layers", -1))
        if layers != int(layers):
            raise fields_of.misread("num_layers", layers, "a whole number")
        return cls(
            config,
            method,
            None if said.get("scale") is None else fields_of.number(said, "scale"),
            None if said.get("rank") is None else fields_of.size(said, "rank"),
            fields_of.number(said, "dropout", 0.0),
            None if said.get("keys") is None else frozenset(fields_of.words(said, "keys")),
            int(layers),
        )

    def alpha(self, rank: int, supplied: Supplied) -> float:
        """Raises `ConfigMissing` where it is nowhere, `UsageError` where it is there and supplied."""
        if self.scale is None:
            other = (
                "; its `alpha` is nothing that MLX-LM reads" if "alpha" in (self.config.get(PARAMETERS) or ()) else ""
            )
            return supplied.require_alpha(rank, "the adapter", WAY + other)
        supplied.refuse("the configuration has the scale", "alpha", "scale")
        if not math.isfinite(self.scale * rank):
            raise fields_of.misread("scale", self.scale, "a scale of factors")
        return self.scale * rank

    def require_places(self, paths: Iterable[str], model: nn.Module | None) -> None:
        """Raises `ConfigConflict` for factors at modules where MLX-LM would put none: it loads no such file."""
        for path in paths:
            found = LAYER.fullmatch(path)
            names = {path, found["name"]} if found else {path}
            if self.keys is not None and not names & self.keys:
                raise ConfigConflict(f"`keys` in `adapter_config.json` leave out `{path}`", hint=phrases.AGAIN)
        layers = [found for path in paths if path not in (self.keys or ()) and (found := LAYER.fullmatch(path))]
        if self.layers > 0 and layers:
            self._require_last(layers, model)

    def _require_last(self, layers: list[re.Match[str]], model: nn.Module | None) -> None:
        numbers = [int(found["number"]) for found in layers]
        count = (None if model is None else _length(model, layers[0]["stack"])) or max(numbers) + 1
        if min(numbers) < count - self.layers:
            raise ConfigConflict(
                "`num_layers` in `adapter_config.json`",
                got=str(self.layers),
                want=f"{count - min(numbers)}, as the file has layer {min(numbers)} of {count}",
                hint=phrases.AGAIN,
            )

    @property
    def model(self) -> str:
        """The name of the base, "" where there is none or it is a path."""
        return public.name(fields_of.text(self.config, MODEL))

    def kept(self) -> dict[str, Any]:
        """What is kept for the way back: nothing that only says where things lay on somebody's machine."""
        places = {name for name, value in self.config.items() if isinstance(value, str) and public.is_place(value)}
        return {name: value for name, value in self.config.items() if name not in places | {MODEL}}


def _length(model: nn.Module, stack: str) -> int | None:
    """How many layers a list of the base has, None where it has none of that name."""
    try:
        return len(list(model.get_submodule(stack.removesuffix(".")).children()))
    except AttributeError:
        return None
