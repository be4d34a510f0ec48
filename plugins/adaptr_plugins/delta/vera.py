"""VeRA: W' = W + diag(b) B diag(d) A, with A and B random, frozen and shared by all layers.  Kopiczko et al. 2023,
arXiv:2310.11454.

A is (r, in_max) and B (out_max, r) for the largest layer; smaller ones take A[:, :width] and B[:out]. Both are
He-uniform, drawn again from `seed` whenever they are needed, by a generator whose stream never changes, and checked
against `sha256`; only d and b are stored. Files of other tools bring their own (`stored`). Fresh, b is zero and d is
`d_initial`.

Choose it where very many adapters of one base are stored: two vectors a layer. It wants a rate ten times LoRA's or more
and a rank of hundreds, so that it is slower than LoRA before it is merged, and short trainings bring it less far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Costs, Live
from adaptr.errors import DigestMismatch

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Projections drawn in this process, by (seed, r, in_max, out_max).
_DRAWN: dict[tuple[int, int, int, int], tuple[Tensor, Tensor]] = {}


@dataclass(frozen=True)
class Config:
    r: int = 256
    dropout: float = 0.0
    d_initial: float = 0.1
    in_max: int = 1
    out_max: int = 1
    width: int = 1
    stored: bool = False
    seed: int = 0
    sha256: str = ""


class VeRA(Delta[Config]):
    name = "vera"
    params = {
        "A": Param("r in_max", init="custom", when="stored", trains=False, shared=True),
        "B": Param("out_max r", init="custom", when="stored", trains=False, shared=True),
        "d": Param("r", init="fill"),
        "b": Param("out"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    portable = True

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = self.projections(p, cfg)
        d, b = p["d"], p["b"]
        A, B = A.to(d.device), B.to(d.device)
        return LowRank(b.unsqueeze(-1) * B[: len(b)], d.unsqueeze(-1) * A[:, : cfg.width])

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        """The projections as d and b scale them are kept."""
        both = sum(target.shape)
        return None if cfg.dropout else Costs(True, token=cfg.r, once=cfg.r * both, flops=2 * cfg.r * both)

    def projections(self, p: Live, cfg: Config) -> tuple[Tensor, Tensor]:
        """A (r, in_max) and B (out_max, r): the stored ones, or those of the seed."""
        return (p["A"], p["B"]) if cfg.stored else drawn(cfg)

    def init_rule(self, param: str, target: Target) -> str:
        return f"fill:{target.config['d_initial']}" if param == "d" else super().init_rule(param, target)

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        out_max, in_max = (max(place.shape[axis] for place in places) for axis in (0, 1))
        values = {**values, "out_max": out_max, "in_max": in_max}
        if next(model.parameters()).is_meta:
            return values
        return {**values, "sha256": digest(*_draw(self.config(values)))}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "width": target.shape[1]}


def drawn(cfg: Config) -> tuple[Tensor, Tensor]:
    """A (r, in_max) and B (out_max, r), fp32. Raises `DigestMismatch` if they are not those that `sha256` promises."""
    key = (cfg.seed, cfg.r, cfg.in_max, cfg.out_max)
    if key not in _DRAWN:
        A, B = _draw(cfg)
        if cfg.sha256 and digest(A, B) != cfg.sha256:
            raise DigestMismatch(
                f"`vera`: the projections drawn from seed {cfg.seed}",
                verb="have",
                got=f"the digest {digest(A, B)}",
                want=f"{cfg.sha256}, with which the adapter was trained",
                hint="save it with its projections, where it was trained",
            )
        _DRAWN[key] = A, B
    return _DRAWN[key]


def _draw(cfg: Config) -> tuple[Tensor, Tensor]:
    """Uniform in +-√2 √(3 / fan in), the fan of A being in_max and that of B r."""
    from adaptr.algebra import stream

    def uniform(name: str, shape: tuple[int, int]) -> Tensor:
        bound = (2.0 * 3.0 / shape[1]) ** 0.5
        drawn: Tensor = (stream.uniform(cfg.seed, f"vera.{name}", shape) * 2 - 1) * bound
        return drawn.float()

    return uniform("A", (cfg.r, cfg.in_max)), uniform("B", (cfg.out_max, cfg.r))


def digest(A: Tensor, B: Tensor) -> str:
    """sha256 over the bytes of A, then B, fp32 in C order."""
    import hashlib

    return hashlib.sha256(A.contiguous().numpy().tobytes() + B.contiguous().numpy().tobytes()).hexdigest()
