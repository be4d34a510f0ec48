"""What LitGPT writes beside its factors, as YAML: the alpha and the parts that have factors, and the sizes of heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.errors import ConfigMissing, Unsupported, shown
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces import settings
from adaptr.foreign.supplied import Supplied
from adaptr.untrusted import whole

HYPERPARAMETERS, MODEL_CONFIG = "hyperparameters.yaml", "model_config.yaml"
_PARTS = ("lora_query", "lora_key", "lora_value")
#: The classes of a block's MLP whose layers have the names of models like Llama in transformers.
_LIKE_LLAMA = ("LLaMAMLP", "GemmaMLP")
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Said:
    """`training`: of the hyperparameters; `model`: of the model's configuration. Empty where there is none."""

    training: Mapping[str, Any]
    model: Mapping[str, Any]

    @classmethod
    def beside(cls, weights: Path) -> Said:
        """Raises a `ForeignError` for what can't be read, `Unsupported` for a model whose names are not known."""
        found = cls(*(_read(weights.parent / name) for name in (HYPERPARAMETERS, MODEL_CONFIG)))
        mlp = fields_of.text(found.model, "mlp_class_name") or _LIKE_LLAMA[0]
        if mlp not in _LIKE_LLAMA:
            raise Unsupported(
                f"`mlp_class_name` in `{MODEL_CONFIG}` is `{shown(mlp)}`, of a model whose names adaptr doesn't know",
                hint="merge it with LitGPT (`litgpt merge_lora`), and extract the difference (`adaptr extract`)",
            )
        return found

    def alpha(self, rank: int, supplied: Supplied) -> float:
        """Raises `ConfigMissing` where it is nowhere, `UsageError` where it is there and supplied."""
        if self.training.get("lora_alpha") is None:
            return supplied.require_alpha(rank, "the adapter", f"it is `lora_alpha` in LitGPT's `{HYPERPARAMETERS}`")
        supplied.refuse(f"`{HYPERPARAMETERS}` has the alpha", "alpha", "scale")
        return fields_of.number(self.training, "lora_alpha")

    @property
    def dropout(self) -> float:
        return fields_of.number(self.training, "lora_dropout", 0.0)

    def parts(self, supplied: Supplied) -> tuple[bool, ...]:
        """Which of queries, keys and values have factors. Raises as `alpha` does."""
        if any(name in self.training for name in _PARTS):
            supplied.refuse(f"`{HYPERPARAMETERS}` says which parts have factors", "enable_lora")
            return tuple(fields_of.flag(self.training, name) for name in _PARTS)
        if supplied.enable_lora is None or len(supplied.enable_lora) != len(_PARTS):
            raise ConfigMissing(
                "which of queries, keys and values have factors is not in the file",
                hint=f"put LitGPT's `{HYPERPARAMETERS}` beside it, or say it (`--enable-lora 1,0,1`)",
            )
        return supplied.enable_lora

    def rows(self) -> tuple[int, ...]:
        """The outputs of queries, keys and values. Raises `ConfigMissing` without the model's configuration."""
        if not self.model:
            raise ConfigMissing(
                "the sizes of queries, keys and values are not in the file", hint=f"put its `{MODEL_CONFIG}` beside it"
            )
        heads = fields_of.size(self.model, "n_head")
        size = fields_of.size(self.model, "head_size")
        groups = fields_of.size(self.model, "n_query_groups", heads)
        return heads * size, groups * size, groups * size


def _read(path: Path) -> Mapping[str, Any]:
    return settings.fields(whole(path, _LIMIT), path.name) if path.is_file() else {}
