"""FRoD: W' = W + U (S + diag(l - l₀)) Vᵀ, W = U diag(l₀) Vᵀ in a frame V that all layers of a sort share.  FRoD 2026,
AAAI (doi 10.1609/aaai.v40i31.39813; authors not confirmed, no arXiv id found).

V (in, in) comes of a joint decomposition of the weights of a sort, U has columns of length 1, and S is zero but at a
share `rate` of the places off the diagonal. l and S are trained. All V are stored, in one vector, a layer's from `at`
on; so are all places, from `first` on. U is made of V and the weight, and of no other base. A sort with fewer rows in
all than columns has no frame. Making V takes in³ for each sort, and all weights of it at a time.

Choose it where an adapter of few numbers should reach the whole weight, in a frame that fits all layers of a sort. The
frames are stored, in² for each sort, and making them takes long for wide models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptr import Param, Target, Transform, View
from adaptr.adapter.tensors import Wide
from adaptr.algebra.sparse import require_places
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.init import unmade
from adaptr.precision import wide
from adaptr_plugins.transform import _joint

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    rate: float = 0.01
    seed: int = 0
    ridge: float = 1e-3
    dropout: float = 0.0
    n: int = 1
    at: int = 0
    first: int = 0
    frames: int = 1
    places: int = 1


class FRoD(Transform[Config]):
    name = "frod"
    params = {
        "V": Param("frames", init="custom", trains=False, shared=True),
        "i": Param("places", init="custom", trains=False, shared=True, whole=True),
        "l": Param("in", init="custom", joint=True),
        "s": Param("n"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    least = {"n": 0, "places": 0, "at": 0, "first": 0}
    small = {"rate": 0.1}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        ends = cfg.at + target.shape[1] ** 2, cfg.first + cfg.n
        if ends[0] > cfg.frames or ends[1] > cfg.places:
            raise BadConfig(
                f"`frod` at `{target.path}`: its frame and its places",
                verb="end at",
                got=f"{ends[0]} and {ends[1]}",
                want=f"at most {cfg.frames} and {cfg.places}, which there are",
            )
        return {}

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        V = frame(p, cfg)
        sides, M = _joint.sides(W, V), V.new_zeros(V.shape).flatten()
        M = M.index_put((places(p, cfg),), p["s"]).view(V.shape) + (p["l"] - sides[-1]).diag()
        return W + sides[:-1] @ M @ V.mT

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import dropout

        own = Wide(p)
        V, y = frame(own, cfg), base(x)
        sides = p.derived("U", (*base.sources(), p["V"], cfg), lambda: _joint.sides(wide(base.weight).detach(), V))
        row, col = places(p, cfg) // len(V), places(p, cfg) % len(V)
        z = dropout(x, cfg.dropout, p.training).to(V.dtype) @ V
        z = (z * (own["l"] - sides[-1])).index_add(-1, row, z[..., col] * own["s"])
        found: Tensor = y + (z @ sides[:-1].mT).to(y.dtype)
        return found

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        rate = targets[0].config["rate"]
        return placed(targets, {sort: _joint.count(width, rate) for sort, width in _joint.widths(targets).items()})

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        """Values of the layer alone: the rest is of all of them, and is `started`."""
        i = unmade(self.shapes(target), ("V", "l", "s"))["i"].long()
        return {**super().init(target, base, generator), **unmade(self.shapes(target), ("s", "i")), "i": i}

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        frames = _joint.started(model, list(adapter.targets.values()))
        return adapter.replace(tensors={**adapter.tensors, **frames})


def placed(targets: Sequence[Target], counts: Mapping[str, int]) -> list[Target]:
    """`targets` with where their frames and their places are. `counts`: of places, by sort."""
    own, at, first = {}, 0, 0
    for sort, width in _joint.widths(targets).items():
        own[sort] = {"n": counts[sort], "at": at, "first": first}
        at, first = at + width * width, first + counts[sort]
    every = {"frames": at, "places": first}
    return [replace(one, config={**one.config, **every, **own[_joint.sort(one.path)]}) for one in targets]


def frame(p: Live, cfg: Config) -> Tensor:
    """V (in, in)."""
    width = len(p["l"])
    return p["V"][cfg.at : cfg.at + width * width].view(width, width)


def places(p: Live, cfg: Config) -> Tensor:
    """Where S is not zero: flat indices into (in, in). Raises `InputError` for one beside it, or there twice."""
    found = p["i"][cfg.first : cfg.first + cfg.n]
    order = p.derived("places", (p["i"], cfg), lambda: found.sort().values)
    require_places(order, len(p["l"]) ** 2, "frod")
    return found
