"""PEFT's LoRA on stacks of experts: `target_parameters`.

A is (experts*r, in), expert by expert; B is (out, r*experts), the expert changing fastest. Of several stacks in one
module the wrappers are nested in the order in which the module has them, the last outermost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import targets as places
from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, LossyConversion, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys, selecting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

#: The first version of PEFT whose factors of stacks have the sides of the layer, not of its storage.
SIDES_NAMED = (0, 19)
#: The order in which models have their expert stacks, for writing without the model.
STACKS = ("gate_up_proj", "down_proj")


def is_raw(config: Mapping[str, Any], path: str) -> bool:
    """Whether the factors at `path` are those of a raw parameter."""
    owners = [word.rpartition(".")[0] for word in fields_of.words(config, "target_parameters")]
    owner = _owner(path)
    if owner != path or any(o and (owner == o or owner.endswith(f".{o}")) for o in owners):
        return bool(owners)
    # a name alone may be of any module but those that are adapted as such
    return "" in owners and not fields_of.named(selecting.spec(config), path)


def _owner(path: str) -> str:
    return path.split(f".{keys.BASE}")[0]


def place(config: Mapping[str, Any], model: nn.Module | None, path: str) -> Target:
    """The stack whose wrapper is at `path`. Raises `ConfigMissing` without a model."""
    model = placing.needed(model, path, "it adapts a stack of experts, and the file doesn't say how the base stores it")
    owner, depth = _owner(path), path.count(f".{keys.BASE}")
    named = fields_of.words(config, "target_parameters")
    found = [t for t in placing.stacks(model, owner) if fields_of.named(named, t.path)]
    if depth >= len(found):
        raise ConfigConflict(
            f"`{path}`: `target_parameters` names {len(found)} parameters of `{owner}` in this base",
            want=f"{depth + 1} at least",
            hint=phrases.BASE,
        )
    target = found[len(found) - 1 - depth]
    if target.shape[1] == target.shape[2] and fields_of.version(config) < SIDES_NAMED:
        raise _swapped(target.path)
    return target


def is_matrix(source: Source, model: nn.Module | None, path: str, found: Mapping[str, str], r: int) -> bool:
    """Whether the raw parameter at `path` is the matrix `weight` of a module (a router's), by its name and rank."""
    named = fields_of.named(fields_of.words(source.config, "target_parameters"), f"{path}.weight")
    sized = source.shapes[found["A"]][:1] == (r,) and source.shapes[found["B"]][1:] == (r,)
    known = model is not None or fields_of.version(source.config) >= SIDES_NAMED
    return named and sized and known


def matrix(source: Source, model: nn.Module | None, path: str, found: Mapping[str, str]) -> Target:
    """The matrix at `path` as a linear layer. Raises `TargetNotFound` or `ConfigConflict` where the base's differs."""
    out, into = source.shapes[found["B"]][0], source.shapes[found["A"]][1]
    target = Target(path, kinds.LINEAR, (out, into))
    if model is None:
        return target
    stored = places.parameter(model, f"{path}.weight")
    if tuple(stored.shape) != target.stored_shape:
        raise phrases.misshapen(
            f"`{path}.weight` in the base",
            stored.shape,
            (out, into),
            ConfigConflict,
            by="by the factors",
            hint=phrases.BASE,
        )
    if out == into and fields_of.version(source.config) < SIDES_NAMED:
        raise _swapped(f"{path}.weight")
    return target


def _swapped(path: str) -> Unsupported:
    return Unsupported(
        f"`{path}`: PEFT before 0.19 swapped the sides of some parameters, and on square ones nothing tells",
        hint="load and save it again with a newer PEFT",
    )


def pieces(source: Source, target: Target, found: Mapping[str, str], r: int) -> dict[str, Piece]:
    """A (e, r, in) and B (e, out, r) inside PEFT's tensors."""
    e, out, into = target.shape
    for name, want in (("A", (e * r, into)), ("B", (out, r * e))):
        if source.shapes[found[name]] != want:
            raise phrases.misshapen(
                f"`{found[name]}`",
                source.shapes[found[name]],
                want,
                ConfigConflict,
                by=f"by `{target.path}` with {e} experts of {out} by {into} at rank {r}",
                hint=phrases.AGAIN,
            )
    return {
        "A": Piece(found["A"], (e, r, into)),
        "B": Piece(found["B"], (e, out, r), view=(out, r, e), order=(2, 0, 1)),
    }


def flat(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one stack as PEFT lays them out."""
    return {"A": own["A"].flatten(0, 1), "B": own["B"].permute(1, 2, 0).flatten(1)}


def nested(adapter: Adapter, path: str) -> str:
    """Where PEFT puts the wrapper of one stack among those of its module."""
    owner, _, name = path.rpartition(".")
    names = [p.rpartition(".")[2] for p in adapter.targets if p.rpartition(".")[0] == owner]
    if len(names) == 1:
        return owner
    if not set(names) <= set(STACKS):
        raise LossyConversion(
            f"`{owner}`: PEFT's order of the stacks {', '.join(sorted(names))} is not known", hint=phrases.OWN
        )
    later = len([n for n in names if STACKS.index(n) > STACKS.index(name)])
    return owner + f".{keys.BASE}" * later
