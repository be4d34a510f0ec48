"""PEFT's types: each is a table, with functions where it departs. They are files of `adaptr_formats.peft`, called as
PEFT calls the type, in lower case, or come by the entry-point group `adaptr.peft_types`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.adapter import Target, kinds
from adaptr.discovery import Sort
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys, listed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

SORT = Sort("type of PEFT's", "adaptr_formats.peft", "adaptr.peft_types", "`adaptr_formats/peft`")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Field:
    """A field of a type's configuration that is one for all targets: PEFT's name, what it is, and what it is if absent
    (None: the method's own default). `called`: what people call several of it, where targets may have their own.
    """

    theirs: str
    kind: type = float
    default: float | None = None
    called: str = ""

    def read(self, config: Mapping[str, Any]) -> bool | float:
        """Its value, checked."""
        if self.kind is bool:
            return fields_of.flag(config, self.theirs)
        value = fields_of.number(config, self.theirs, self.default)
        return int(value) if self.kind is int else value


class PeftType:
    """One of PEFT's types. A table says most: what it overrides is where it departs."""

    #: PEFT's name of it in lower case, `-` for `_`: also its file's and its entry point's.
    name: ClassVar[str] = ""
    #: adaptr's methods that are written as it; it is read as the first, unless `read` says otherwise.
    methods: ClassVar[tuple[str, ...]] = ()
    #: Those of which its files say what they do, and not how they are trained.
    untold: ClassVar[tuple[str, ...]] = ()
    #: adaptr's name of a tensor to PEFT's, of a module; those in `weight` end in `.weight` in a file.
    slots: ClassVar[Mapping[str, str]] = {}
    weight: ClassVar[frozenset[str]] = frozenset()
    #: PEFT's names of tensors that its files have in other forms, and of those that all modules share.
    others: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    #: PEFT's names of what is shared and is several tensors, told apart by what follows in their keys.
    parted: ClassVar[tuple[str, ...]] = ()
    #: adaptr's name of a tensor that all modules share to PEFT's: it stands once in the file.
    common: ClassVar[Mapping[str, str]] = {}
    #: adaptr's field of the configuration to PEFT's, of those that are one for all targets.
    table: ClassVar[Mapping[str, Field]] = {}
    #: PEFT's field of a strength that goes with `r` and has patterns over it; "" for a type without ranks.
    alpha: ClassVar[str] = ""
    #: adaptr's fields that PEFT has none for, with the value that is what it does.
    only: ClassVar[Mapping[str, Any]] = {}
    #: PEFT's fields that change what tensors mean in a way that can't be followed, and the reason.
    refused: ClassVar[Mapping[str, str]] = {}
    #: Whether layers may be stored as (in, out), which one field says for all.
    turns: ClassVar[bool] = False
    #: Whether files leave open which layers of the base they are for: its modules are looked at where it is given.
    open: ClassVar[bool] = False
    #: Whether ranks are trimmed to zero, so that empty tensors are no accident.
    trimmed: ClassVar[bool] = False
    #: PEFT's slot of the parameters that a type replaces whole.
    whole: ClassVar[str] = ""
    #: Whether it adds tokens: whole parameters are saved under `base_model.` and not `base_model.model.`.
    prompt: ClassVar[bool] = False

    #: Whether a file is another adapter for each of some tasks.
    tasked: ClassVar[bool] = False

    @property
    def peft(self) -> str:
        """What PEFT calls it."""
        return self.name.upper().replace("-", "_")

    # ------------------------------------------------------------ reading

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        """Targets and tensors. `model` decides what a file leaves open, where it is given."""
        fields_of.refuse(source.config, self.refused)
        targets: dict[str, Target] = {}
        pieces = self.once(source)
        both = {key[1:]: piece.shape for key, piece in pieces.items()}
        for path, slots in keys.grouped(source.keys).items():
            values = {**self.values(source.config, path), **self.form(slots)}
            found = keys.chosen(path, slots, self.there(values, slots))
            shapes = both | {name: source.shapes[key] for name, key in found.items()}
            target = self.target(source, model, path, shapes, values)
            targets[path] = target
            pieces |= {f"{path}:{name}": self.piece(target, name, key, shapes[name]) for name, key in found.items()}
            pieces |= {
                f"{path}:{name}": Piece("", tuple(made.shape), value=made)
                for name, made in self.unsaved(source, model, target).items()
            }
        return Draft(self.method(source.config), self.values(source.config, ""), targets, pieces)

    def method(self, config: Mapping[str, Any]) -> str:
        """adaptr's method of a file with this configuration."""
        return self.methods[0]

    def once(self, source: Source) -> dict[str, Piece]:
        """What stands once in the file, by adaptr's key. Raises `ConfigConflict` where it is missing."""
        there = {key.slot: key.source for key in source.keys if key.slot and not key.path}
        missing = next((slot for slot in self.common.values() if slot not in there), None)
        if missing:
            raise ConfigConflict(f"the file has no `{missing}`, which all modules share", hint=phrases.AGAIN)
        return {f":{name}": Piece(there[slot], source.shapes[there[slot]]) for name, slot in self.common.items()}

    def unsaved(self, source: Source, model: nn.Module | None, target: Target) -> Mapping[str, Tensor]:
        """The tensors of a target that PEFT does not save and makes again, made as it does, by adaptr's name."""
        return {}

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        """adaptr's configuration of one target, patterns resolved; of all for the path ""."""
        ranked = fields_of.ranked(config, path, "r", self.alpha) if self.alpha else {}
        said = {name: field for name, field in self.table.items() if field.default is not None or field.kind is bool}
        given = said | {name: field for name, field in self.table.items() if field.theirs in config}
        return {**ranked, **{name: field.read(config) for name, field in given.items()}}

    def form(self, slots: Mapping[str, str]) -> dict[str, Any]:
        """What follows from which tensors a target has."""
        return {}

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        """The slots of a target of this configuration: adaptr's name to PEFT's."""
        return self.slots

    def there(self, values: Mapping[str, Any], slots: Mapping[str, str]) -> Mapping[str, str]:
        """The same where the file has these `slots`: usually its configuration is enough."""
        return self.wanted(values)

    def of(self, target: Target) -> Mapping[str, str]:
        """The same of a target that is written."""
        return self.wanted(target.config)

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """The target whose tensors have these shapes. Raises `ConfigConflict` where they contradict each other."""
        raise NotImplementedError

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        """Where one of a target's tensors is in the file's."""
        return Piece(key, shape)

    def absent(self, config: Mapping[str, Any], targets: frozenset[str]) -> list[str]:
        """What a configuration promises in a way of this type alone, and no target has."""
        return []

    # ------------------------------------------------------------ writing

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """The configuration fields that follow from the targets. Raises `Unsupported` for what PEFT can't say."""
        configs = {path: target.config for path, target in adapter.targets.items()}
        for path, config in configs.items():
            self.require_only(path, config)
        common = {
            field.theirs: fields_of.common({path: c[name] for path, c in configs.items()})
            for name, field in self.table.items()
        }
        turned = any(target.kind == kinds.LINEAR_T for target in adapter.targets.values())
        return {
            "peft_type": self.peft,
            **(fields_of.ranks(configs, self.alpha) if self.alpha else {}),
            **common,
            **({"fan_in_fan_out": turned} if self.turns else {}),
            "target_modules": placing.ordered(adapter.targets),
        }

    def require_only(self, path: str, config: Mapping[str, Any]) -> None:
        """Raises `Unsupported` for what PEFT's form of a method does not do."""
        for name, value in self.only.items():
            if config.get(name, value) != value:
                raise Unsupported(
                    f"`{path}`: PEFT's {self.peft} has no `{name}`, which is {config[name]} here and would have to be "
                    f"{value}",
                    hint=phrases.OWN,
                )

    def replaces(self, adapter: Adapter) -> list[str]:
        """Which of an adapter's whole parameters have that slot."""
        return []

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        """`adapter` with what a file of this type needs of its base."""
        return adapter

    def sealed(self, adapter: Adapter) -> Mapping[str, str]:
        """What is kept with an adapter that was read, to know whether a file of it means the same: usually nothing."""
        return {}

    def lost(self, adapter: Adapter) -> list[str]:
        """What of an adapter this type has no place for: fields that targets have each their own of."""
        values = {n: {t.config[n] for t in adapter.targets.values()} for n, field in self.table.items() if field.called}
        return [f"different {self.table[name].called} of targets" for name, found in values.items() if len(found) > 1]

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """{adaptr's key: (PEFT's key, tensor)}."""
        made: dict[str, tuple[str, Tensor | Same]] = {
            f":{name}": (f"base_model.{slot}", same.whole(adapter, f":{name}")) for name, slot in self.common.items()
        }
        for path, target in adapter.targets.items():
            slots = self.of(target)
            for name, tensor in ((n, t) for n, t in same.at(adapter, path).items() if n in slots):
                made[f"{path}:{name}"] = self.key(path, slots[name]), self.laid(target, name, tensor)
        return made

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        """One of a target's tensors as PEFT has it."""
        return found

    def key(self, path: str, slot: str) -> str:
        """The key that PEFT gives a slot of a module."""
        return keys.written(path, slot, ".weight" if slot in self.weight else "")


# ---------------------------------------------------------------- by name


def of_type(peft_type: str, config: Mapping[str, Any] = MappingProxyType({})) -> PeftType:
    """PEFT's type of that name, in that configuration. Raises `Unsupported` for a later one, `UnknownFormat` for none
    of PEFT's.
    """
    found = known(peft_type)
    if found is not None:
        return found
    raise listed.refusal(peft_type, config, [name.upper().replace("-", "_") for name in SORT.names()])


def known(peft_type: str) -> PeftType | None:
    """PEFT's type of that name, None where it has no file."""
    name = peft_type.lower().replace("_", "-")
    return _get(name) if name.upper().replace("-", "_") == peft_type and SORT.has(name) else None


def of_method(method: str) -> PeftType:
    """The type that a method is written as: a built-in one, or an installed one. Raises `Unsupported` for none."""
    found = next((one for one in builtin() if method in one.methods), None)
    if found is None:
        found = next((one for one in map(_get, SORT.points()) if method in one.methods), None)
    if found is None:
        raise Unsupported(
            f"PEFT has no equivalent of `{method}`",
            want=f"one of {', '.join(methods())}",
            hint="keep it in adaptr's own format, or convert it with `--method` first",
        )
    return found


def methods() -> list[str]:
    """The methods that the built-in types hold."""
    return [method for one in builtin() for method in one.methods]


@functools.cache
def slots(also: PeftType | None = None) -> keys.Slots:
    """The names of tensors of all built-in types and another: what is another type's is known as such."""
    every = [*builtin(), *([also] if also is not None else [])]
    named = {slot for one in every for slot in (*one.slots.values(), *one.others)}
    own, inner = {slot.partition(".")[0] for slot in named}, {slot for slot in named if "." in slot}
    once = frozenset(slot for one in every for slot in (*one.shared, *one.common.values()))
    parted = frozenset(slot for one in every for slot in one.parted)
    return keys.Slots(frozenset(own), once, frozenset(inner), parted)


@functools.cache
def builtin() -> tuple[PeftType, ...]:
    return tuple(_get(name) for name in SORT.files())


@functools.cache
def _get(name: str) -> PeftType:
    found: PeftType = SORT.load(name, PeftType)
    return found
