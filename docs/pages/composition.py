"""registry_spec/schemas/composition.schema.json: what a recipe of `adaptr compose` may say."""

from __future__ import annotations

from typing import Any

from adaptr import strategies
from adaptr.composing.beside import CHOICES
from adaptr.composing.recipe_file import FIELDS, KINDS
from adaptr.precision import NAMES

JSON = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}
GRADIENT = {"type": ["number", "array"], "items": {"type": "number"}}
WEIGHT = {"type": ["number", "array", "object"], "items": {"type": "number"}, "additionalProperties": GRADIENT}
WORDS = {
    "inputs": "The adapters, each with its weight.",
    "strategy": "How deltas become one.",
    "config": "Fields of the strategy: `density: 0.2`.",
    "rank": "Cut the result to this rank.",
    "energy": "Cut it to the smallest rank with this share of its energy.",
    "normalize": "Divide the weights by their sum; without it what the strategy says.",
    "seed": "For strategies that draw.",
    "replaced": "What becomes of biases and whole parameters of several adapters.",
    "base": "The base, for methods whose delta depends on it.",
    "any_base": "Go on although the adapters name their base differently.",
    "name": "The name of the result.",
    "dtype": "What the result is stored in; without it the wider of fp32 and the inputs.",
    "tune": "What is to be found by measuring: `data`, `trials`, `over`, as `--tune` has them.",
}
INPUT = {
    "adapter": {"type": "string", "description": "A file, a folder, a reference or a name in the store."},
    "weight": {**WEIGHT, "description": "A number, a list from the first layer to the last, or either by pattern."},
    "digest": {"type": "string", "description": "Of the weights; another adapter is refused."},
}
CHOSEN = {"strategy": lambda: strategies.SORT.names(), "replaced": lambda: CHOICES, "dtype": lambda: NAMES}


def schema() -> dict[str, Any]:
    inputs = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "additionalProperties": False, "required": ["adapter"], "properties": INPUT},
    }
    found: dict[str, dict[str, Any]] = {"inputs": {**inputs, "description": WORDS["inputs"]}}
    for name in FIELDS:
        if name in KINDS:
            kind = JSON[KINDS[name][0]]
            said = {"enum": list(CHOSEN[name]())} if name in CHOSEN else {"type": kind}
            found[name] = {**said, "description": WORDS[name]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of `adaptr compose`",
        "type": "object",
        "additionalProperties": False,
        "required": ["inputs"],
        "properties": found,
    }
