"""Tensor names in PEFT files: from what is there, with every wrapper's traces, to (module path, slot).

A slot is what PEFT calls a tensor of an adapter (`lora_A`, `lora_B.bias`, `ia3_l` ...), without the adapter's name; a
whole parameter of the base has the slot "".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from adaptr.errors import ConfigConflict, TensorUnknown, Unsupported, phrases

PROMPT = "prompt_embeddings"
BASE = "base_layer"
#: What stands between a module and its parts where the model was wrapped for training.
WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod")
SAVED = "modules_to_save"
#: What TRL's model with a value head calls the model inside.
VALUED = "pretrained_model."

#: Components that only adapters have: a key with one that is no slot belongs to another method.
_FOREIGN = re.compile(
    r"(lora|hada|lokr|ia3|oft|boft|hra|vera|vblora|adalora|adaption|delora|hira|fourierft|waveft)_\w*"
)


@dataclass(frozen=True)
class Slots:
    """What PEFT calls the tensors of adapters: those of a module, and those that all modules share, at the top; of a
    slot that is a module of several the whole names, `inner`. What is shared and `parted` is several, each called after
    what follows in its key.
    """

    own: frozenset[str]
    shared: frozenset[str]
    inner: frozenset[str] = frozenset()
    parted: frozenset[str] = frozenset()

    @cached_property
    def expression(self) -> re.Pattern[str]:
        # where the tail begins nothing can fail any more, so that no earlier slot is tried with all that follows it
        return re.compile(
            rf"(?P<path>.+)\.(?P<slot>{'|'.join(map(re.escape, sorted(self.own)))})(?P<tail>(\.[\s\S]*)?)"
        )

    @cached_property
    def inside(self) -> frozenset[str]:
        """What follows the name of an adapter, or stands in its place, in a module that PEFT saved whole."""
        return self.own | {BASE, "weight", "bias"}


@dataclass(frozen=True)
class Key:
    """One tensor: `source` is its key in the file, `path` the module (or the parameter, if `slot` is "")."""

    source: str
    path: str
    slot: str


def read(keys: Iterable[str], slots: Slots, prompt: bool = False) -> list[Key]:
    """The keys of a file; of a `prompt` type, whole parameters have the shorter prefix.

    Raises `ConfigConflict` where two become one or there are several adapters in the file.
    """
    keys = list(keys)
    wrapped = bool(keys) and all(key.startswith("module.") for key in keys)
    prefixes = ("base_model.",) if prompt else ("base_model.model.", "base_model.")
    found = [_key(source, source.removeprefix("module.") if wrapped else source, prefixes, slots) for source in keys]
    names = {name for _, name in found if name}
    if len(names) > 1:
        raise ConfigConflict(f"the file holds several adapters ({', '.join(sorted(names))})", hint="save one at a time")
    # PEFT's own copy of a replaced module, kept by some versions: it is the base's, not the adapter's
    kept = [key for key, _ in found if ".original_module." not in f".{key.source}."]
    # a module that is saved whole stands under its own name; with `bias` or a table, PEFT saves its wrapper's as well
    own = {(key.path, key.slot) for key in kept if f".{SAVED}." not in key.source}
    kept = [key for key in kept if f".{SAVED}." not in key.source or (key.path, key.slot) not in own]
    _distinct(kept)
    return kept


def _key(source: str, key: str, prefixes: tuple[str, ...], slots: Slots) -> tuple[Key, str]:
    """A key and the adapter name inside it, if any."""
    for wrapper in WRAPPERS:
        key = key.replace(f"{wrapper}.", "")
    if key == PROMPT or key.startswith(f"{PROMPT}."):
        return Key(source, "", PROMPT), ""
    key = key.removeprefix(VALUED)
    prefix = next((p for p in prefixes if key.startswith(p)), "")
    while prefix and key.startswith(prefix):  # a PEFT model was wrapped in another
        key = key.removeprefix(prefix)
    first, _, rest = key.partition(".")
    if first in slots.shared:
        return (Key(source, "", key), "") if first in slots.parted else (Key(source, "", first), rest)
    key, saved = _unsaved(key, slots)
    found = slots.expression.fullmatch(key)
    tail = found["tail"].split(".")[1:] if found else []
    if found is None or not all(tail):
        return Key(source, key.replace(f".{BASE}.", "."), ""), saved
    slot, last = found["slot"], ""
    if tail and tail[-1] in {"weight", "bias"} and f"{slot}.{tail[-1]}" not in slots.inner:
        last = tail.pop()
    if tail and f"{slot}.{tail[-1]}" in slots.inner:
        slot = f"{slot}.{tail.pop()}"
    return Key(source, found["path"], f"{slot}.bias" if last == "bias" else slot), ".".join(tail) or saved


def _unsaved(key: str, slots: Slots) -> tuple[str, str]:
    """A key without the wrapper of a module that is saved whole, and the adapter's name in it, if it is there."""
    owner, wrapper, rest = key.partition(f".{SAVED}.")
    if not wrapper:
        return key, ""
    first, _, inner = rest.partition(".")
    return (f"{owner}.{rest}", "") if first in slots.inside else (f"{owner}.{inner}", first)


def _distinct(keys: Iterable[Key]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for key in keys:
        other = seen.setdefault((key.path, key.slot), key.source)
        if other != key.source:
            raise ConfigConflict(
                f"`{other}` and `{key.source}` are the same tensor under two names", hint=phrases.AGAIN
            )


def grouped(keys: Iterable[Key]) -> dict[str, dict[str, str]]:
    """{module path: {slot: key in the file}} of the adapter's own tensors."""
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        if key.slot and key.path:
            if f".{BASE}." in f".{key.path}." and not key.path.endswith(f".{BASE}"):
                raise Unsupported(
                    f"`{key.source}`: adapters inside a multi-head attention module can't be read yet",
                    hint="merge it with PEFT, or leave that module out of the targets",
                )
            found.setdefault(key.path, {})[key.slot] = key.source
    return found


def chosen(path: str, slots: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """{adaptr's name: key in the file}. Raises `ConfigConflict` or `TensorUnknown` unless they are the wanted ones."""
    missing = next((slot for slot in wanted.values() if slot not in slots), None)
    if missing:
        raise ConfigConflict(
            f"`{path}` has {', '.join(sorted(slots))} and no `{missing}`, which its configuration wants",
            hint=phrases.AGAIN,
        )
    extra = next((slot for slot in slots if slot not in wanted.values()), None)
    if extra:
        raise TensorUnknown(
            f"`{slots[extra]}`: the configuration has no place for `{extra}` at `{path}`", hint=phrases.AGAIN
        )
    return {name: slots[slot] for name, slot in wanted.items()}


def whole(keys: Iterable[Key]) -> Iterator[Key]:
    """The whole parameters of the base that a file replaces."""
    return (key for key in keys if not key.slot)


def is_foreign(path: str, modules: Collection[str] = ()) -> bool:
    """Whether a key that is no known slot nevertheless belongs to an adapter method; `modules` may be called so."""
    own = {part for module in modules for part in module.split(".")}
    return any(_FOREIGN.fullmatch(part) for part in path.split(".") if part not in own)


def written(path: str, slot: str, suffix: str = "") -> str:
    """The key that PEFT gives a slot of a module."""
    return f"base_model.model.{path}.{slot}{suffix}"


def two_stacks(architecture: str) -> bool:
    """Whether a model class is one of encoder and decoder, by the names that transformers gives them."""
    return (
        re.match(r"(T5|MT5|UMT5|LongT5|Bart|MBart|Pegasus|Marian|Whisper|M2M100|Blenderbot|Led|LED)", architecture)
        is not None
    )
