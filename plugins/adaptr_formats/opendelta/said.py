"""What a configuration of OpenDelta's says, and which modules of a base it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, Unsupported, phrases, shown
from adaptr.foreign import placing
from adaptr_formats.opendelta.named import SETTINGS, SLOTS

if TYPE_CHECKING:
    from torch import nn

_ACTIVATIONS = {
    "relu": "relu", "tanh": "tanh", "swish": "silu", "silu": "silu", "gelu_new": "gelu_new", "gelu_orig": "gelu",
    "gelu": "gelu",
}  # fmt: skip
#: What its common names are of, by the type of the model.
_ENCODER = {"attn@": r"layer\.\d+\.attention", "ff@.w1@": r"layer\.\d+\.intermediate\.dense",
            "ff@.w2@": r"layer\.\d+\.output\.dense"}  # fmt: skip
COMMON: Mapping[str, Mapping[str, str]] = {
    "gpt2": {"attn@": r"h\.\d+\.attn", "ff@.w1@": r"h\.\d+\.mlp\.c_fc", "ff@.w2@": r"h\.\d+\.mlp\.c_proj"},
    "bert": _ENCODER,
    "roberta": _ENCODER,
}


@dataclass(frozen=True)
class Said:
    config: Mapping[str, Any]
    model: nn.Module | None

    @property
    def kind(self) -> str:
        found = self.config.get("delta_type")
        if not isinstance(found, str) or found not in SLOTS:
            raise Unsupported(
                f"adaptr can't read OpenDelta's `{shown(str(found))}`",
                hint=f"it reads {phrases.listed(SLOTS)}; keep it where it was trained",
            )
        return found

    def number(self, name: str, default: float) -> float:
        value = self.config.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
            raise ConfigConflict(f"`{name}` in `{SETTINGS}`", got=f"`{shown(str(value))}`", want="a number")
        return float(value)

    def activation(self) -> str:
        name = str(self.config.get("non_linearity") or "gelu_new").lower()
        if name not in _ACTIVATIONS:
            raise Unsupported(
                f"the non-linearity is `{shown(name)}`, which adaptr's bottlenecks don't have",
                hint=f"they have {phrases.listed(sorted(set(_ACTIVATIONS.values())))}",
            )
        return _ACTIVATIONS[name]

    def words(self, name: str) -> list[str]:
        """Raises `ConfigConflict` for what is no list of texts, `Unsupported` for patterns."""
        found = self.config.get(name) or []
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ConfigConflict(f"`{name}` in `{SETTINGS}`", got=f"`{shown(str(found))}`", want="a list of names")
        pattern = next((one for one in found if one.startswith("[r]")), None)
        if pattern is not None:
            raise Unsupported(
                f"`{name}` in `{SETTINGS}` has the pattern `{shown(pattern)}`, by which adaptr looks for no modules",
                hint="write the names there that it stands for",
            )
        return found

    def walked(self, named: Sequence[str], why: str) -> Iterator[str]:
        """The modules of the base that these names are of, in its order. Raises `ConfigMissing` without a base."""
        model = placing.needed(self.model, f"OpenDelta's {self.kind}", why)
        left = tuple(self.words("exclude_modules"))
        ends = self._common(model, named) if self.config.get("common_structure") else [*map(re.escape, named)]
        wanted = re.compile(rf"(.*\.)?({'|'.join(ends)})", re.DOTALL)
        for path, _ in model.named_modules():
            if path and not path.startswith(left) and wanted.fullmatch(path):
                yield path

    def _common(self, model: nn.Module, named: Sequence[str]) -> list[str]:
        kind = str(getattr(getattr(model, "config", None), "model_type", ""))
        known = COMMON.get(kind, {})
        unknown = next((name for name in named if name not in known), None)
        if unknown is not None:
            raise Unsupported(
                f"`{shown(unknown)}` is OpenDelta's common name of a module of `{shown(kind)}`, which adaptr doesn't "
                "have",
                hint=f"write the model's own names into `modified_modules` in `{SETTINGS}`, with `common_structure` "
                "false",
            )
        return [known[name] for name in named]
