"""VeLoRA: LoRA, W' = W + s B A, whose backward knows of the input one number a group.  Miles et al. 2024,
arXiv:2405.17991.

The input is cut into `groups`, of which their projections on one unit vector e are kept for the gradient of A: x ~ `c`
(xᵍ·e) e. That of everything else is exact. e: the normalised mean of the groups of each batch (`batch_average`), of the
first one (`batch_average_once`), or `random`; it is stored, and no part of what the adapter does.

Choose it where activations take the memory and a rough gradient of A is good enough: of each group of an input one
number is kept. Where `lora-fa` is enough it is simpler and its gradients are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from adaptr import Param, Target, View
from adaptr.contract import Costs, Live
from adaptr_plugins.delta import _factors, _looking

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run
    from adaptr.contract.view import Call
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_factors.Config):
    groups: int = 64
    c: float = 1.0
    init: Literal["batch_average", "batch_average_once", "random"] = "batch_average"


class VeLoRA(_factors.Plain[Config]):
    name = "velora"
    params = {
        "A": Param("r in", init="kaiming"),
        "B": Param("out r"),
        "b": Param("out", when="bias"),
        "e": Param("part", init="custom", trains=False),
    }
    kinds = frozenset({"linear", "linear_t"})
    least = {"groups": 1}
    small = {"r": 2, "alpha": 2.0, "groups": 8}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"part": -(-target.shape[1] // cfg.groups)}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        from adaptr.algebra import stream

        n, meta = self.shapes(target)["e"], made["A"].is_meta
        if meta or self.config(target.config).init != "random":
            return {"e": torch.zeros(n, device="meta" if meta else None)}
        return {"e": unit(stream.uniform(0, f"velora.{target.path}", n).float() - 0.5)}

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        found: dict[str, Tensor] = {}

        def see(path: str, x: Tensor) -> None:
            cfg = self.config(session.adapter.targets[path].config)
            if cfg.init == "batch_average_once":
                found.setdefault(path, mean(x, cfg.groups))

        _looking.inputs(session, islice(data, 1), see)
        for path, e in found.items():
            session.put(path, "e", e)

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        return None

    def live(self, base: View, p: Live, cfg: Config, weight: float, call: Call) -> Call:
        plain = super().live(base, p, cfg, weight, call)

        def learning(x: Tensor) -> Tensor:
            import torch
            from torch.nn.functional import dropout, linear

            if not (torch.is_grad_enabled() and p["A"].requires_grad):
                found: Tensor = plain(x)
                return found
            y, given = base(x), (dropout(x, cfg.dropout, p.training) if cfg.dropout else x).to(p["A"].dtype)
            e = mean(given, cfg.groups) if cfg.init == "batch_average" else p["e"]
            change, shift = linear(hidden(given, p["A"], e, cfg), p["B"]), self.shift(p, cfg, weight)
            made = change * (self.scale(cfg) * weight)
            changed: Tensor = y + (made if shift is None else made + shift).to(y.dtype)
            return changed

        return learning


def hidden(x: Tensor, A: Tensor, e: Tensor, cfg: Config) -> Tensor:
    """x Aᵀ (..., r), the gradient of A being that of c (xᵍ·e) e: of x itself nothing is kept for it."""
    from torch.nn.functional import linear

    n = cfg.groups
    known = grouped(x.detach(), n) @ e.to(x.dtype)
    turned = (grouped(A, n) @ e.to(A.dtype)).mT
    seen: Tensor = known @ turned * cfg.c
    h = linear(x, A.detach())
    return h + (seen - seen.detach()).view_as(h)


def mean(x: Tensor, n: int) -> Tensor:
    """The normalised mean of all groups."""
    return unit(grouped(x.detach(), n).flatten(0, 1).mean(0))


def unit(e: Tensor) -> Tensor:
    """e / ‖e‖, the diagonal where e is zero."""
    import torch

    e = e.float()
    e = e.where(e.any(), torch.ones_like(e))
    made: Tensor = e / e.norm()
    return made


def grouped(x: Tensor, n: int) -> Tensor:
    """(..., in) to (tokens, n, part), zeros at the end."""
    from torch.nn.functional import pad

    part = -(-x.shape[-1] // n)
    return pad(x, (0, n * part - x.shape[-1])).reshape(-1, n, part)
