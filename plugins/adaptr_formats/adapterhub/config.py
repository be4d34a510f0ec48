"""What AdapterHub's `adapter_config.json` says, and which of its fields change what is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, ConfigMissing, Unsupported, phrases, shown
from adaptr.foreign import seen
from adaptr.foreign.peft import config as fields_of

if TYPE_CHECKING:
    from pathlib import Path

#: The kinds of configuration. A bottleneck's says none.
BOTTLENECK, LORA, PREFIX, PROMPT, REFT, UNION = "", "lora", "prefix_tuning", "prompt_tuning", "reft", "union"
#: Fields by kind, and the values with which they change nothing that is asked for here; ANY, whatever they are: they
#: say how it is created and trained, or what the tensors show.
ANY = object()
_BEGINS = {"init_weights": ANY, "init_weights_seed": ANY, "dropout": ANY, "leave_out": ANY, "dtype": ANY}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    BOTTLENECK: {
        **_BEGINS,
        **dict.fromkeys(("mh_adapter", "output_adapter", "reduction_factor", "stochastic_depth"), ANY),
        **dict.fromkeys(("inv_adapter_reduction_factor", "adapter_residual_before_ln"), ANY),
        **dict.fromkeys(("phm_dim", "phm_rank", "phm_bias", "phm_init_range", "phm_c_init", "learn_phm"), ANY),
        **dict.fromkeys(("factorized_phm_W", "factorized_phm_rule", "shared_W_phm", "shared_phm_rule"), ANY),
        "hypercomplex_nonlinearity": ANY,
        "cross_adapter": ANY,
    },
    LORA: {**_BEGINS, **dict.fromkeys(("selfattn_lora", "intermediate_lora", "output_lora"), ANY)},
    PREFIX: {**_BEGINS, **dict.fromkeys(("encoder_prefix", "cross_prefix"), ANY)},
    PROMPT: {**_BEGINS, "prompt_init": ANY, "prompt_init_text": ANY},
    REFT: {**_BEGINS, "layers": ANY},
}
_ACTIVATIONS = {
    "relu": "relu", "swish": "silu", "silu": "silu", "gelu": "gelu", "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new", "tanh": "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """`whole`: the file; `parts`: the configuration of each method by its kind, of a union's several."""

    whole: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def beside(cls, weights: Path) -> Said:
        """Raises `ConfigMissing` without the file, a `ForeignError` or `Unsupported` for what is in it."""
        whole = seen.config_of(weights.parent)
        if whole is None:
            raise ConfigMissing(
                f"`{weights}` lies without the `{seen.CONFIG}` that says what it is",
                hint="put it beside it, as AdapterHub saves it",
            )
        own = whole.get("config")
        if not isinstance(own, dict):
            raise fields_of.misread("config", own, "the configuration of an adapter")
        parts: dict[str, Mapping[str, Any]] = {}
        for one in _united(own):
            kind = _kind(one)
            if kind in parts:
                raise Unsupported(
                    f"the union has two configurations of kind `{kind or 'bottleneck'}`, whose layers AdapterHub "
                    "tells apart by its own code alone",
                    hint="save each of them as an adapter of its own",
                )
            parts[kind] = one
        made = cls(whole, parts)
        made._require_scaled(own)
        return made

    @property
    def misscaled(self) -> bool:
        """Whether it was trained by an `adapters` before 1.1, whose LoRA was not scaled at all."""
        found = re.fullmatch(r"adapters\.(\d+)\.(\d+).*", fields_of.text(self.whole, "version"), re.DOTALL)
        return found is not None and (int(found[1]), int(found[2])) < (1, 1)

    def _require_scaled(self, own: Mapping[str, Any]) -> None:
        lora = self.parts.get(LORA, {})
        if self.misscaled and own.get("architecture") == UNION and lora.get("r") != lora.get("alpha"):
            raise Unsupported(
                "its LoRA is of a union and of an `adapters` before 1.1, which did not scale it, and newer ones do",
                hint="save it with `alpha` as large as `r`, by which it works as it was trained",
            )

    @property
    def model_type(self) -> str:
        return fields_of.text(self.whole, "model_type")


def _united(own: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if own.get("architecture") != UNION:
        return [own]
    found = own.get("configs")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise fields_of.misread("configs", found, "a list of configurations")
    return found


def _kind(own: Mapping[str, Any]) -> str:
    kind = fields_of.text(own, "architecture")
    if kind not in _FIELDS:
        raise Unsupported(
            f"adaptr has no method for AdapterHub's `{shown(kind)}`",
            hint="where it has a weight, `adapters` merges it (`model.merge_adapter`), and `adaptr extract BASE "
            "TUNED` makes an adapter of the change",
        )
    return kind


def asked(kind: str, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `defaults`, which decide what is computed. Raises `Unsupported` for another that may."""
    for name, value in config.items():
        if name in defaults or name == "architecture" or value is None:
            continue
        harmless = _FIELDS[kind].get(name)
        if harmless is not ANY and value != harmless:
            raise Unsupported(
                f"`{shown(name)}` of the configuration is `{shown(str(value))}`, of which adaptr doesn't know what it "
                "does",
                hint="if it is of a newer `adapters`, ask for it to be read; else get the file again",
            )
    return {name: config.get(name, default) for name, default in defaults.items()}


def activation(name: object) -> str:
    """adaptr's name for AdapterHub's. Raises `Unsupported` for one that adaptr has not."""
    found = _ACTIVATIONS.get(str(name).lower())
    if found is None:
        raise Unsupported(
            f"the non-linearity is `{shown(str(name))}`, which adaptr's bottlenecks don't have",
            hint=f"they have {phrases.listed(sorted(set(_ACTIVATIONS.values())))}",
        )
    return found


def function(name: object) -> str:
    """A name that all have which compute the same, "" for none."""
    said = "" if name is None else str(name).lower()
    return _ACTIVATIONS.get(said, said)


def conflict(fact: str) -> ConfigConflict:
    return ConfigConflict(fact, hint=phrases.AGAIN)
