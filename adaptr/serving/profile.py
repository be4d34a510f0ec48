"""A profile: what one server does with PEFT folders, by version, each rule with where it was read.

Profiles are data of this package, `profiles/<server>.yaml`, and tests hold them to their form.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adaptr.errors import UsageError, phrases
from adaptr.serving import FOLDER, GGUF, names
from adaptr.serving.versions import Version, beyond, parsed


@dataclass(frozen=True)
class Range:
    """Versions from `since` to before `before`, each without a limit where it is ()."""

    since: Version = ()
    before: Version = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Range:
        return cls(*(parsed(str(said[name])) if name in said else () for name in ("since", "before")))

    def holds(self, version: Version) -> bool:
        return self.since <= version and (not self.before or version < self.before)


@dataclass(frozen=True)
class Rule:
    """What becomes of tensors of which all of `when` holds (`adaptr.serving.conditions`).

    `whole`: whether one such tensor decides on the adapter. `says`: the words for it, with {names} of
    `adaptr.serving.facts`. `sources`: repository, path and commit, or thread.
    """

    id: str
    verdict: str
    when: Mapping[str, Any]
    says: str
    sources: tuple[str, ...]
    whole: bool = False
    range: Range = field(default_factory=Range)


@dataclass(frozen=True)
class Architecture:
    """The modules of model classes to which the server adds an adapter, by its own names, `*` being a number, of which
    the first is the layer's, and `**` anything.

    `renames`: how a name's beginning is rewritten before it is looked for, in this order. `towers`: beginnings of what
    takes part only where the server is told so. `complete`: whether no other layer takes part, so that a name that ends
    otherwise is known to be none.
    """

    names: tuple[str, ...]
    modules: tuple[str, ...]
    sources: tuple[str, ...]
    renames: Mapping[str, str] = field(default_factory=dict)
    towers: tuple[str, ...] = ()
    complete: bool = True
    range: Range = field(default_factory=Range)


@dataclass(frozen=True)
class Scale:
    """What the server multiplies B A by. `rank`, `alpha`: `global` for the configuration's one number, `own` for that
    of the layer, by its tensors or by the patterns. `rslora`: whether `use_rslora` is read.
    """

    rank: str
    alpha: str
    rslora: bool
    sources: tuple[str, ...]
    range: Range = field(default_factory=Range)


@dataclass(frozen=True)
class Writing:
    """How `convert --for` writes for it. `flags`: what it must be told, with {rank}. `ranks`: those that it can be
    told, () for any. `every_block`: whether a kind of layer must be in each block; `together`: what a layer must
    have beside it, by the ends of their names.
    """

    flags: str = ""
    ranks: tuple[int, ...] = ()
    every_block: bool = False
    together: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """`read`: when its sources were. `oldest`, `newest`: the versions that it speaks of. `version`: the one asked for,
    else the newest. `options`: what the server can be told, and what it does when it isn't. `strip`: whether PEFT's
    prefix is taken off keys `once` or wherever it stands (`every`).
    """

    server: str
    tool: str
    read: str
    oldest: str
    newest: str
    version: Version
    options: Mapping[str, Any]
    strip: str
    rules: tuple[Rule, ...]
    scales: tuple[Scale, ...]
    architectures: tuple[Architecture, ...]
    writing: Writing
    notes: tuple[str, ...] = ()

    @property
    def beyond(self) -> bool:
        """Whether the version is newer than all that was read."""
        return beyond(self.version, parsed(self.newest))

    @property
    def called(self) -> str:
        return f"{self.tool} {'.'.join(map(str, self.version))}"

    def architecture(self, name: str) -> Architecture | None:
        return next((one for one in self.architectures if name in one.names), None)


def profile(text: str) -> Profile:
    """The profile of `SERVER` or `SERVER@VERSION`, with what holds for that version.

    Raises `UsageError` for an unknown server, for what is no version, and for one older than all that was read.
    """
    name, at, said = text.partition("@")
    if name in GGUF:
        raise UsageError(
            f"`{name}` loads a GGUF file, and no profile says what it makes of one",
            hint=f"`adaptr convert --for {name}` writes what it loads, or says why not",
        )
    if name not in names():
        raise phrases.unknown(UsageError, "there is no server", name, [*names(), *GGUF], "known")
    found = loaded(name)
    version = parsed(said) if at else found.version
    if version < parsed(found.oldest):
        raise UsageError(
            f"the version of `{name}`",
            got=f"`{said}`",
            want=f"one from {found.oldest} on: the profile was read of {found.oldest} to {found.newest}",
            hint="nothing is known of older ones; serve it with a newer one",
        )
    return replace(
        found,
        version=version,
        rules=tuple(one for one in found.rules if one.range.holds(version)),
        scales=tuple(one for one in found.scales if one.range.holds(version)),
        architectures=tuple(one for one in found.architectures if one.range.holds(version)),
    )


@functools.cache
def loaded(name: str) -> Profile:
    """The whole of a profile, what holds for all versions in it."""
    import yaml

    said = yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    oldest, newest = map(str, said["versions"])
    return Profile(
        server=name,
        tool=said["tool"],
        read=str(said["read"]),
        oldest=oldest,
        newest=newest,
        version=parsed(newest),
        options=said.get("options", {}),
        strip=said.get("strip", "once"),
        rules=tuple(_rule(one) for one in said["rules"]),
        scales=tuple(_scale(one) for one in said["scale"]),
        architectures=tuple(_architecture(one) for one in said["architectures"]),
        writing=_writing(said.get("writing", {})),
        notes=tuple(said.get("notes", ())),
    )


def _rule(said: Mapping[str, Any]) -> Rule:
    return Rule(
        id=said["id"],
        verdict=said["verdict"],
        when=said["when"],
        says=said["says"],
        sources=tuple(said["sources"]),
        whole=said.get("whole", False),
        range=Range.of(said),
    )


def _scale(said: Mapping[str, Any]) -> Scale:
    return Scale(said["rank"], said["alpha"], said["rslora"], tuple(said["sources"]), Range.of(said))


def _architecture(said: Mapping[str, Any]) -> Architecture:
    return Architecture(
        names=_words(said["names"]),
        modules=_modules(said["modules"]),
        sources=tuple(said["sources"]),
        renames=said.get("renames", {}),
        towers=_words(said.get("towers", ())),
        complete=said.get("complete", True),
        range=Range.of(said),
    )


def _writing(said: Mapping[str, Any]) -> Writing:
    ranks, together = tuple(said.get("ranks", ())), said.get("together", {})
    return Writing(said.get("flags", ""), ranks, said.get("every_block", False), together)


def _words(said: str | Sequence[str]) -> tuple[str, ...]:
    """A list of texts, or words in a line."""
    return tuple(said.split()) if isinstance(said, str) else tuple(said)


def _modules(said: Mapping[str, str]) -> tuple[str, ...]:
    """`{model.layers.*: self_attn.q_proj mlp.up_proj}` as whole names; a name with nothing in it is one itself."""
    return tuple(f"{stem}.{end}" if end else stem for stem, ends in said.items() for end in (_words(ends) or ("",)))
