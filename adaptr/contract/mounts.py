"""Where a method sits in a model: what it answers, and the host acts upon. Free of torch, never stored in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.adapter import kinds

if TYPE_CHECKING:
    from adaptr.adapter import Target

#: The site of a target of each kind that is no layer with a weight of its own.
_OF_KIND = {
    kinds.PLACE: "output",
    kinds.ATTENTION: "attention",
    kinds.MODEL: "prompt",
    **dict.fromkeys(kinds.STACKS, "experts"),
}


@dataclass(frozen=True)
class Mount:
    """One place of an adapter in a live model.

    `path`: of the module, of the parameter for stacks of experts, "" for the model. `site`: a name in `adaptr.sites`.
    `reads`: paths of modules whose inputs the method takes there. `calls`: paths of layers of the base that its formula
    calls, such as a norm (`p.call`). `shared`: the targets whose tensors it has, if not those of the target at its own
    path; what two mounts share is one parameter in both. `context`: whether the formula there reads what a forward
    knows (`p.context`), which is paid for where a mount says so. `training`: whether it is there only while the adapter
    learns.
    """

    path: str
    site: str
    reads: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    context: bool = False
    training: bool = False
    calls: tuple[str, ...] = ()


def of(target: Target, context: bool = False) -> Mount:
    """The mount of a target at the site of its kind, reading and calling what its configuration says."""
    reads, calls = ((path,) if (path := target.config.get(name)) else () for name in ("reads", "calls"))
    return Mount(target.path, _OF_KIND.get(target.kind, "weight"), reads, context=context, calls=calls)
