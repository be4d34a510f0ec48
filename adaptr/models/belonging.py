"""Does an adapter belong to this base? By the content of its weights, else by structure, else by name.

Where the weights at its targets are those that the adapter was trained on, names say nothing: folders are renamed.
Where neither content nor structure is known, as in most files of other tools, the name is all there is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.adapter import Adapter
from adaptr.adapter.public import CACHED
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.contract import Member
from adaptr.errors import AdaptrError, CheckpointError, ContentMismatch, WrongBase
from adaptr.models.content import check_content
from adaptr.plugins import method
from adaptr.registry.digest import Digest
from adaptr.registry.store import Store
from adaptr.untrusted import json_file

EQUAL, DIFFERS, UNKNOWN = "equal", "differs", "unknown"
#: The base's folder has a short form of the name that the adapter gives: `llama` for `Llama-3.2-1B`.
SHORT = "short form"
#: The adapter names a quantised form of the base, as QLoRA's trainers do; it merges into the base itself.
QUANTIZED = "quantised form"
_SAID = {
    EQUAL: "by name alone",
    SHORT: "by a short form of the name alone",
    QUANTIZED: "a quantised form of this base, by name alone",
    DIFFERS: "another name",
}
#: What such forms are called, behind the name of the model.
_FORM = re.compile(r"([-_.](unsloth-bnb-4bit|bnb-[48]bit|[48]bit|int[48]|gptq|awq|nf4|fp8))+\Z")
#: A name with an owner, as hubs and registries give them.
_PUBLIC = re.compile(r"[A-Za-z0-9][\w.:-]*(/[A-Za-z0-9][\w.-]*)+")
#: A short form has at least so many letters.
_LETTERS = 3


@dataclass(frozen=True)
class Compared:
    """What was compared of an adapter's base and the one at hand, and how it came out. `named`: as the adapter does."""

    adapter: str
    content: str
    structure: str
    name: str
    named: str

    @property
    def words(self) -> str:
        """In one line: what tells that they belong together, or that nothing does."""
        return f"{self.adapter}: {self._known()}"

    def _known(self) -> str:
        if self.content == EQUAL:
            return "the weights that it was trained on"
        if self.content == DIFFERS:
            return "other weights than it was trained on"
        if self.structure == EQUAL:
            return "the structure that it was trained on"
        if self.name == UNKNOWN:
            return "nothing known of its base"
        return f"names `{self.named}`, {_SAID[self.name]}"

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def require_base(checkpoint: Checkpoint, adapters: Sequence[Adapter], any_base: bool) -> list[Compared]:
    """Hold each adapter against `checkpoint`.

    Raises `ContentMismatch` for other weights at its targets, and `WrongBase` where neither content nor structure is
    known and it names another base; not if `any_base`.
    """
    names, built, found = Names(checkpoint), _structure(checkpoint), []
    for adapter in adapters:
        content = _content(checkpoint, names, adapter, any_base)
        structure = EQUAL if adapter.base.structure == built else UNKNOWN
        one = _compared(adapter, checkpoint.root, content, structure)
        found.append(one)
        if not any_base:
            _require(one, checkpoint.root)
    return found


def require_named(base: Path, adapters: Sequence[Adapter], any_base: bool) -> None:
    """The same where weights are compared later, when they are loaded: by name, for adapters without content."""
    for adapter in adapters:
        one = _compared(adapter, base, EQUAL if adapter.base.content else UNKNOWN, UNKNOWN)
        if not any_base:
            _require(one, base)


def same_name(one: str, two: str) -> bool:
    """Whether two names of a base, of a hub or a folder, end in the same one."""
    return _leaf(one) == _leaf(two)


def _require(one: Compared, base: Path) -> None:
    if one.name == DIFFERS and one.content != EQUAL and one.structure != EQUAL:
        raise WrongBase(
            f"`{one.adapter}` names the base `{one.named}`, this one is `{next(names_of(base))}`, and nothing else is "
            "known of it",
            hint="if they are one model, say so with `--any-base`",
        )


def _compared(adapter: Adapter, base: Path, content: str, structure: str) -> Compared:
    return Compared(adapter.label, content, structure, _named(adapter.base.id, base), adapter.base.id)


def _content(checkpoint: Checkpoint, names: Names, adapter: Adapter, any_base: bool) -> str:
    """Whether the weights at all targets are those that the adapter, and each part of it, was trained on."""
    known = []
    members: list[Member] = method(adapter.method).members(adapter)
    for _, part, _ in members:
        try:
            known.append(check_content(checkpoint, names, part))
        except ContentMismatch:
            if not any_base:
                raise
            return DIFFERS
    return EQUAL if known and all(known) else UNKNOWN


def _structure(checkpoint: Checkpoint) -> str:
    """As `adaptr.host.identity` has it of a live model: the same where files and model use the same names."""
    shapes = sorted((name, stored.entry.shape) for name, stored in checkpoint.tensors.items())
    text = "\n".join(f"{name} {','.join(map(str, shape))}" for name, shape in shapes)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- names


def _named(wanted: str, base: Path) -> str:
    names = {_leaf(name) for name in names_of(base)} - {""}
    want = _leaf(wanted)
    if want not in names and _flat(wanted) & names:
        return EQUAL
    if not want or not names:
        return UNKNOWN
    if want in names:
        return EQUAL
    if _FORM.sub("", want) in names:
        return QUANTIZED
    return SHORT if any(n.isalnum() and len(n) >= _LETTERS and want.startswith(n) for n in names) else DIFFERS


def _flat(wanted: str) -> set[str]:
    """`owner/name` as people call a folder by it: the two with a sign between that a folder's name may have."""
    parts = wanted.lower().split("/")
    return {sign.join(parts) for sign in ("_", "__", "-", "--")} if len(parts) == 2 and all(parts) else set()


def names_of(base: Path) -> Iterator[str]:
    """What a base is called: where it was pulled from, in the Hub's cache, by its folder, by itself; or the text."""
    if not base.exists():
        yield str(base)
        return
    folder = base if base.is_dir() else base.parent
    if folder.parent.name == "views" and len(folder.name) == 64:
        yield from _pulled(folder)
        return
    ways = [Path(folder).absolute(), folder.resolve()]
    cached = [f"{found[1]}/{found[2]}" for way in ways for part in way.parts if (found := CACHED.fullmatch(part))]
    yield from cached or [way.name for way in ways]
    try:
        said = json_file(folder / "config.json", CheckpointError).get("_name_or_path")
    except (AdaptrError, OSError):
        said = None
    if isinstance(said, str):
        yield said


def public_name(base: Path) -> str:
    """What a base is called wherever it lies: on the hub or registry that it came from; "" where only a folder's name
    is known, which is this machine's own.
    """
    folder = base if base.is_dir() else base.parent
    view = folder.parent.name == "views" and len(folder.name) == 64
    own = {Path(folder).absolute().name, folder.resolve().name} if not view else set()
    return next((name for name in names_of(base) if name not in own and _PUBLIC.fullmatch(name)), "")


def _pulled(view: Path) -> Iterator[str]:
    """The reference that an artifact came from, and its names in the store."""
    store, digest = Store(view.parent.parent), Digest(f"sha256:{view.name}")
    reference = store.reference_of(digest)
    yield from [reference.name] if reference is not None else []
    yield from (entry.name.partition(":")[0] for entry in store.names() if entry.digest == digest)


def _leaf(name: str) -> str:
    """The last part of a name or path, without regard to case; of a path in the Hub's cache the repository's."""
    cached = CACHED.search(name)
    found = cached[2] if cached else name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "" if found in {".", ".."} else found.lower()
