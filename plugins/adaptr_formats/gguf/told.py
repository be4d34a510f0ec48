"""What a GGUF file tells people: `general.*` names, and beside them what only adaptr knows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.errors import MetadataInvalid, Unsupported, phrases, shown
from adaptr.foreign import saving

if TYPE_CHECKING:
    from adaptr.adapter import Adapter, Base
    from adaptr.format.gguf import GgufHeader, Value
    from adaptr_formats.gguf.facts import Facts

#: Where a file that adaptr wrote has what has no other place there; others lack it.
ABOUT = saving.ABOUT
#: An adapter's field to the file's.
FIELDS = {
    "name": "general.name", "release": "general.version", "summary": "general.description",
    "license": "general.license", "tags": "general.tags",
}  # fmt: skip
_BASE = "general.base_model.0."
_HUB = "https://huggingface.co/"
_REPOSITORY = re.compile(rf"{re.escape(_HUB)}(\w[\w.-]*/\w[\w.-]*)")
#: What an adapter is for, as llama.cpp's server tells those who ask.
PROMPTED = ("adapter.lora.task_name", "adapter.lora.prompt_prefix")
#: The tokens from which on an aLoRA works.
INVOKED = "adapter.alora.invocation_tokens"
#: Where adaptr puts the rate of dropout, of training alone.
DROPOUT = "adaptr.dropout"


def of(header: GgufHeader) -> dict[str, Any]:
    """The fields of an adapter that a file says. Raises `ForeignError`."""
    found = saving.told({ABOUT: header.text(ABOUT) or "{}"})
    for field, theirs in FIELDS.items():
        value = header.metadata.get(theirs)
        texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        if ABOUT not in header.metadata and (isinstance(value, str) if field != "tags" else texts):
            found[field] = value
    return found


def base(header: GgufHeader, known: Base) -> Base:
    """`known` with the repository of the Hub that a file says of the base, and no path of whoever wrote it."""
    found = _REPOSITORY.fullmatch(header.text(f"{_BASE}repo_url"))
    return replace(known, id=found[1], revision=header.text(f"{_BASE}version")) if found else known


def values(adapter: Adapter, said: Facts, alpha: float) -> list[tuple[str, Value]]:
    """What a file says before its tensors. `said`: of the base, heads under the names that a model's file has."""
    kept = adapter.foreign.get("gguf", {}).get("metadata", {})
    counts = {"head_count": said.heads.queries, "head_count_kv": said.heads.keys}
    dropout = next((float(target.config["dropout"]) for target in adapter.targets.values()), 0.0)
    found: dict[str, Value] = {
        ABOUT: saving.about(adapter) or "{}",  # first: by it the file is known as adaptr's, which may replace it
        "general.architecture": said.architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
        INVOKED: _invoked(adapter),
        **{theirs: getattr(adapter, field) for field, theirs in FIELDS.items()},
        **_of_base(adapter.base),
        **{name: kept.get(name, "") for name in PROMPTED},
        **{f"{said.architecture}.attention.{name}": count for name, count in counts.items()},
        DROPOUT: str(dropout) if dropout else "",
    }
    return [(name, value) for name, value in found.items() if value]


def _invoked(adapter: Adapter) -> tuple[int, ...]:
    """The tokens of an aLoRA; none of a LoRA. Raises `Unsupported` where targets have each their own."""
    found = {tuple(target.config.get("invocation", ())) for target in adapter.targets.values()}
    if len(found) > 1:
        raise Unsupported("llama.cpp invokes all targets by the same tokens, and this adapter has others at some")
    return next(iter(found), ())


def _of_base(known: Base) -> dict[str, Value]:
    """A repository of the Hub under the names of llama.cpp's converter."""
    if not _REPOSITORY.fullmatch(f"{_HUB}{known.id}"):
        return {}
    organisation, _, name = known.id.partition("/")
    said = {"name": name, "organization": organisation, "version": known.revision, "repo_url": f"{_HUB}{known.id}"}
    return {"general.base_model.count": 1, **{f"{_BASE}{field}": text for field, text in said.items()}}


def invocation(header: GgufHeader) -> dict[str, list[int]]:
    """The field of `alora` that a file says. Raises `MetadataInvalid` for what are no tokens."""
    said = header.metadata.get(INVOKED)
    if said is None:
        return {}
    if not isinstance(said, tuple) or not said or not all(type(one) is int and one >= 0 for one in said):
        raise MetadataInvalid(f"`{INVOKED}`", got=shown(repr(said)), want="ids of tokens", hint=phrases.AGAIN)
    return {"invocation": [int(one) for one in said]}


def dropout(header: GgufHeader) -> float:
    """The rate that adaptr put there, 0 for none. Raises `MetadataInvalid` for what is no rate."""
    text = header.text(DROPOUT)
    if not re.fullmatch(r"0\.\d{1,20}|", text):
        raise MetadataInvalid(f"`{DROPOUT}`", got=f"`{shown(text)}`", want="a rate below 1", hint=phrases.AGAIN)
    return float(text or 0)


def kept(header: GgufHeader) -> dict[str, str]:
    """All values as texts, but for what adaptr put there."""
    shown = {name: ", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in header.metadata.items()}
    return {name: text for name, text in shown.items() if name not in (ABOUT, DROPOUT)}
