"""A packed checkpoint some of whose weights change: which tensors come and go, what its configuration says then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from adaptr.bulk.change import Change, Plan
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.rewrite import Layout, NewTensor, layout
from adaptr.checkpoint.stored import Shard, Stored
from adaptr.errors import LossyConversion, Unsupported
from adaptr.errors.text import size
from adaptr.merging import into_gguf
from adaptr.merging.fate import Fate
from adaptr.merging.packed import stays
from adaptr.models.sizes import Config
from adaptr.packings import Encoded

#: How much of a change must be left.
HALF = 0.5
FIELD = "quantization_config"
#: What else there is where too little survives.
FLOATS = (
    "leave `--packed` out to have the changed weights as floats, put what is lost into an adapter with "
    "`--compensate`, or say `--lossy`"
)
#: In a receipt: the weights that lay packed, and their schemes.
PACKED = "packed"


@dataclass(frozen=True)
class Compensated:
    """An adapter C with what packing lost. `left`: ‖W' + C - (W + D)‖ / ‖D‖ over all weights; `rank`: of C."""

    file: str
    rank: int
    left: float
    bytes: int


@dataclass(frozen=True)
class PackedAgain:
    """What became of weights that were packed again, of each and of all.

    `error`: of the base's own rounding, relative to its weights; `survived`: <W' - W, D> / ‖D‖², 1 where the change D
    is there in full; `left`: ‖W' - (W + D)‖ / ‖D‖, above 1 where the base without the adapter would be nearer;
    `compensation`: the adapter with what is lost.
    """

    scheme: str
    error: float
    survived: float
    left: float
    compensation: Compensated | None = None
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def changed(todo: Plan) -> dict[str, tuple[Change, Packed]]:
    return {name: (change, change.packed) for name, change in todo.changes.items() if change.packed is not None}


def require_packable(todo: Plan) -> None:
    """Raises `Unsupported` where a changed weight can't be packed again, or none lies packed."""
    mine = {name: pair for name, pair in changed(todo).items() if not _is_float(pair[1])}
    if not mine:
        raise Unsupported("none of the weights that change lies packed", hint="merge without `--packed`")
    for change, stored in mine.values():
        codec = stored.codec
        if change.what == "weight" and not isinstance(codec, Encoded):
            raise Unsupported(
                f"how weights are packed as {codec.scheme} is not known, only how they are read",
                hint="merge without `--packed`: what changes is written as floats then",
            )
        if any(span.rows.start % codec.step for span in change.spans):
            raise Unsupported(
                f"the adapter begins inside of a block of rows of `{stored.name}`", hint="merge without `--packed`"
            )


def _is_float(stored: Packed) -> bool:
    return isinstance(stored.codec, Encoded) and stored.codec.is_float


def new_tensor(change: Change, again: bool) -> dict[str, NewTensor]:
    """The floats that a packed weight becomes, unless it is packed again."""
    stored = change.packed
    if stored is None or stays(change, again):
        return {}
    shape = tuple(change.value.shape) if change.value is not None else stored.entry.shape
    return {change.name: NewTensor(stored.floats, shape, stored.shard)}


def touched(todo: Plan, again: bool) -> set[str]:
    """The stored tensors that are not in the output as they were."""
    found = set[str]()
    for change, stored in changed(todo).values():
        found |= {stored.main.name} if stays(change, again) else {part.name for part in stored.parts.values()}
    return found


def gone(todo: Plan, again: bool) -> set[str]:
    """The stored tensors that the output has not."""
    mine = {name: pair for name, pair in changed(todo).items() if not stays(pair[0], again)}
    names = {part.name for _, stored in mine.values() for part in stored.parts.values()}
    return names - mine.keys()


def layouts(
    checkpoint: Checkpoint, todo: Plan, new: Mapping[str, NewTensor], again: bool
) -> list[tuple[Shard, Layout]]:
    """The headers of the output's shards."""
    if checkpoint.in_gguf:
        return into_gguf.layouts(checkpoint, todo)
    lost, floats = gone(todo, again), frozenset(new) & changed(todo).keys()
    found = []
    for shard in checkpoint.shards:
        metadata = dict(shard.header.metadata)
        if checkpoint.packing is not None and floats:
            metadata = dict(checkpoint.packing.metadata(metadata, floats))
        found.append((shard, layout(shard, new, lost, metadata)))
    return found


def configured(checkpoint: Checkpoint, todo: Plan, config: Config, again: bool) -> tuple[Config, list[str]]:
    """What the configuration says of the weights that are packed no more, and a note on them."""
    mine = {name: stored for name, (change, stored) in changed(todo).items() if not stays(change, again)}
    if not mine or checkpoint.packing is None:
        return config, []
    before = sum(stored.nbytes for stored in mine.values())
    after = sum(stored.entry.numel * _size(stored.floats) for stored in mine.values())
    schemes = " and ".join(sorted({stored.codec.scheme for stored in mine.values()}))
    kinds = " and ".join(sorted({stored.floats for stored in mine.values()}))
    what, them = ("1 weight is", "it") if len(mine) == 1 else (f"{len(mine)} weights are", "them")
    note = (
        f"{what} packed no more: {schemes} became {kinds}, {size(before)} became {size(after)}; `--packed` packs "
        f"{them} again"
    )
    left = [name for name, one in checkpoint.tensors.items() if isinstance(one, Packed) and name not in mine]
    return _said(checkpoint, config, mine, left), [note]


def _said(checkpoint: Checkpoint, config: Config, mine: Mapping[str, Packed], left: Collection[str]) -> Config:
    """`left`: the weights that are still packed."""
    place = _place(config)
    outer = {key: value for key, value in config.items() if key != FIELD or place}
    if not left:
        return {**outer, place: {k: v for k, v in config[place].items() if k != FIELD}} if place else outer
    assert checkpoint.packing is not None
    names = Names(checkpoint)
    floats = {_module(names, name) for name, one in checkpoint.tensors.items() if name in mine or _is_plain(name, one)}
    inner = config[place] if place else config
    packed = sorted(_module(names, name) for name in left)
    made = dict(checkpoint.packing.floated(inner[FIELD], sorted(floats), packed))
    return {**outer, place: {**inner, FIELD: made}} if place else {**config, FIELD: made}


def _place(config: Config) -> str:
    """The part of a configuration that says how weights are packed, "" for the whole."""
    return "" if config.get(FIELD) else "text_config"


def _is_plain(name: str, stored: Stored) -> bool:
    return not isinstance(stored, Packed) and name.endswith(".weight") and len(stored.entry.shape) == 2


def _module(names: Names, name: str) -> str:
    """What the model calls the module of a weight."""
    live = names.live(name) or name
    return live.removesuffix(".weight")


def _size(dtype: str) -> int:
    from adaptr.format.header import DTYPES

    return DTYPES[dtype] // 8


def said(todo: Plan) -> dict[str, Any]:
    """What the receipt says of the weights that lay packed: {weight: scheme}."""
    mine = {name: stored.codec.scheme for name, (_, stored) in changed(todo).items()}
    return {PACKED: mine} if mine else {}


def require_survived(fates: Mapping[str, Fate], lossy: bool, in_gguf: bool = False) -> PackedAgain | None:
    """What became of the weights. Raises `LossyConversion` where less than half of the change is left of it."""
    if not fates:
        return None
    total = Fate(" and ".join(sorted({fate.scheme for fate in fates.values()})))
    for fate in fates.values():
        total.add(fate)
    if total.survived < HALF and not lossy:
        raise LossyConversion(
            f"{total.survived:.0%} of the adapter would survive that the weights are packed again as {total.scheme}, "
            f"which rounds {total.error:.1%} of them while the adapter changes {_relative(total):.1%}",
            hint=into_gguf.BESIDE if in_gguf else FLOATS,
        )
    each = {name: fates[name].as_dict() for name in sorted(fates)}
    return PackedAgain(total.scheme, total.error, total.survived, total.left, tensors=each)


def _relative(fate: Fate) -> float:
    return (fate.change / fate.base) ** 0.5 if fate.base else 0.0
