"""PEFT's CPT: method `cpt`. A file holds the sum of words and what was learned beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.foreign.peft import config as fields_of
from adaptr_formats.peft.prompt_tuning import PromptTuning

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: adaptr's field to PEFT's.
LISTS = {"ids": "cpt_token_ids", "types": "cpt_tokens_type_mask"}
SIZES = {"eps": "opt_projection_epsilon", "eps_form": "opt_projection_format_epsilon"}
#: Whether outputs of examples count less the older they are, and how much of one's the outputs before it have then.
WEIGHED, DECAY = "opt_weighted_loss_type", "opt_loss_decay_factor"


class CPT(PromptTuning):
    name = "cpt"
    methods = ("cpt",)
    counted = False

    def own(self, config: Mapping[str, Any]) -> dict[str, Any]:
        lists = {ours: numbers(config, theirs) for ours, theirs in LISTS.items()}
        sizes = {ours: fields_of.number(config, it, 0.1) for ours, it in SIZES.items()}
        return {"apart": False, **lists, **sizes, "decay": decay(config)}

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        (target,) = adapter.targets.values()
        tokens = target.config["tokens"]
        lists = {theirs: target.config[ours] for ours, theirs in LISTS.items()}
        if any(
            len(one) != tokens for one in lists.values()
        ):  # of several that were put together, the words are not known
            lists = {"cpt_token_ids": [0] * tokens, "cpt_tokens_type_mask": [0] * tokens}
        sizes = {theirs: target.config[ours] for ours, theirs in SIZES.items()}
        less = target.config["decay"]
        weighed = {WEIGHED: "none" if less == 1.0 else "decay", DECAY: less}
        return {**super().fields(adapter), **lists, "cpt_mask": [1] * tokens, **sizes, **weighed}


def decay(config: Mapping[str, Any]) -> float:
    """How much of the loss of an example's outputs that of the one before has. Raises `ConfigConflict`."""
    how = fields_of.text(config, WEIGHED) or "none"
    if how not in {"none", "decay"}:
        raise fields_of.misread(WEIGHED, how, "`none` or `decay`")
    found = fields_of.number(config, DECAY, 1.0) if how == "decay" else 1.0
    if found < 0:
        raise fields_of.misread(DECAY, found, "0 or more")
    return found


def numbers(config: Mapping[str, Any], name: str) -> list[int]:
    """A list of whole numbers, none of them below 0; absent and null are empty."""
    found = config.get(name) or []
    if not isinstance(found, list) or not all(type(one) is int and one >= 0 for one in found):
        raise fields_of.misread(name, found, "a list of whole numbers")
    return found
