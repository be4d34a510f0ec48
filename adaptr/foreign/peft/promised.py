"""What a configuration promises to be in its file, as far as names alone tell.

A listed name that no tensor has is a promise, unless another name of the same role is there: lists for many
architectures name what a model has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import roles
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import selecting, tokens, types

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: The heads that PEFT adds to `modules_to_save` for a task, by any of these names, and how classes of the task end.
HEADS = {
    "SEQ_CLS": (("classifier", "score"), ("SequenceClassification", "ImageClassification")),
    "TOKEN_CLS": (("classifier", "score"), ("TokenClassification",)),
    "QUESTION_ANS": (("qa_outputs",), ("QuestionAnswering",)),
}
#: Where a listed name may stand, so that its role is known.
_PLACES = ("", "attention.", "self_attn.", "mlp.", "layers.0.", "output.", "intermediate.")
#: Roles that are one layer in some models and several in others.
_FUSED = {"attn.q": "attn.qkv", "attn.k": "attn.qkv", "attn.v": "attn.qkv", "attn.qkv": "attn.q"}


@dataclass(frozen=True)
class Promised:
    """A configuration, and what its file has: paths of adapted modules, and of whole parameters."""

    config: Mapping[str, Any]
    targets: frozenset[str]
    whole: frozenset[str]

    @classmethod
    def of(cls, config: Mapping[str, Any], adapter: Adapter) -> Promised:
        """Prompts and prefixes adapt no module that could be missed."""
        adapted = (target for part, target in adapter.all_targets if part != tokens.PART)
        layers = {target.path for target in adapted if target.is_matrix}
        kind = types.known(str(config.get("peft_type")))
        layers |= {path.rpartition(".")[0] for path in ([] if kind is None else kind.replaces(adapter))}
        return cls(config, frozenset(layers), frozenset(adapter.replaced_paths))


def alone(found: Promised) -> list[str]:
    words = [f"`{word}` in `target_modules`" for word in unmet(found) if not _otherwise(found, word)]
    saved = [f"`{word}` in `modules_to_save`" for word in unsaved(found)]
    there = {selecting.layer(found.config, path) for path in found.targets}
    layers = [f"layer {n} in `layers_to_transform`" for n in selecting.layers(found.config) if n not in there]
    kind = types.known(str(found.config.get("peft_type")))
    own = [] if kind is None else kind.absent(found.config, found.targets)
    return [*words, *saved, *layers, *own]


def unmet(found: Promised) -> list[str]:
    """The names listed as targets that no target has."""
    listed = selecting.listed(found.config)
    return [word for word in listed if not any(fields_of.named([word], path) for path in found.targets)]


def _otherwise(found: Promised, word: str) -> bool:
    """Whether a layer of the role that `word` names is there under another name, or as a part of a fused one."""
    mine = {role for role in roles.ROLES for place in _PLACES if roles.has(place + word, role)}
    there = {role for role in roles.ROLES if any(roles.has(path, role) for path in found.targets)}
    return any(role in there or _FUSED.get(role) in there for role in mine)


def unsaved(found: Promised, architecture: str = "") -> list[str]:
    """The names of modules to save that no whole parameter has. Of a task's heads one is enough."""
    words = fields_of.words(found.config, "modules_to_save")
    missing = [word for word in dict.fromkeys(words) if not any(inside(path, word) for path in found.whole)]
    heads, ends = HEADS.get(str(found.config.get("task_type")), ((), ()))
    met = any(head in words and head not in missing for head in heads)
    if met or architecture.endswith(ends or ("\0",)):
        return [word for word in missing if word not in heads]
    return missing


def inside(path: str, word: str) -> bool:
    """Whether a parameter is of a module that `word` names, by the end of its path as PEFT compares it."""
    while path := path.rpartition(".")[0]:
        if path.endswith(word):
            return True
    return False
