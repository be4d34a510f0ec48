"""FAR: W'ᵢ = Wᵢ + Dᵢ for the rows i of feed-forwards that move most in a first training.  Vucetic et al. 2022,
arXiv:2205.01541.

After `priming`, a part of the steps, a row's score is the sum of |D| over it and its bias. The `share` with the highest
scores at each layer learns on, from where it is, or from the base with `reset`; the others go back. The authors split a
layer into learning and other rows to save memory, which gives the same numbers. Kept are rows and their numbers. How
long priming is, and whether learning begins anew, is not confirmed ([M]).

Choose it where feed-forwards should be trained by whole rows, which small devices can keep apart. It costs full fine-
tuning of these layers while rows are chosen, and files of a `share` of them. Attention stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Operator, Param, Sparse, Target
from adaptr.algebra.sparse import require_places
from adaptr.contract import Group, Live, Phase
from adaptr.errors import BadConfig
from adaptr_plugins.select.ln_tuning import with_bias

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    share: float = 0.1
    priming: float = 0.1
    reset: bool = False
    bias: bool = False
    n: int = 0
    rows: int = 1
    finished: bool = False


class FAR(Delta[Config]):
    name = "far"
    family = "select"
    params = {
        "D": Param("out in", unless="finished"),
        "b": Param("out", when="bias", unless="finished"),
        "v": Param("n in", when="finished"),
        "c": Param("n", when="bias finished"),
        "i": Param("n", init="custom", when="finished", trains=False, whole=True),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("mlp.gate|mlp.up", "mlp.up|mlp.gate", "mlp.down")
    least = {"n": 0}
    sizes = {"rows": 0}
    as_stored = True
    rate = 5e-5

    def config(self, values: Mapping[str, Any]) -> Config:
        cfg = super().config(values)
        if not (0 < cfg.share <= 1 and 0 < cfg.priming < 1):
            raise BadConfig(
                "`far`: `share` and `priming`", got=f"{cfg.share} and {cfg.priming}", want="above 0, below 1"
            )
        return cfg

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**with_bias(model, target, values), "rows": target.shape[0]}

    def delta(self, p: Live, cfg: Config) -> Operator:
        import torch

        if not cfg.finished:
            return Dense(p["D"])
        require_places(p["i"], cfg.rows, self.name)
        width = p["v"].shape[1]
        flat = p["i"][:, None] * width + torch.arange(width, device=p["i"].device)
        return Sparse(flat.flatten(), p["v"].flatten(), (cfg.rows, width))

    def delta_bias(self, p: Live, cfg: Config) -> Tensor | None:
        if not cfg.bias:
            return None
        return p["c"].new_zeros(cfg.rows).index_put((p["i"],), p["c"]) if cfg.finished else p["b"]

    def changes(self, target: Target, cfg: Config) -> int:
        return (cfg.n or _count(cfg)) * target.shape[1]

    # ------------------------------------------------------------ training

    def phases(self, cfg: Config) -> Sequence[Phase]:
        return (Phase("train"),) if cfg.finished else (Phase("priming", cfg.priming), Phase("rows", 1 - cfg.priming))

    def groups(self, session: Session) -> list[Group]:
        return [Group(list(session.parameters()), decay=0.0)]

    def begin(self, session: Session, phase: str) -> None:
        import torch

        for state in session.states.values():
            cfg, own = self.config(state.target.config), {name: state[name] for name in ("D", "b") if name in state}
            score = sum(t.detach().float().abs().reshape(cfg.rows, -1).sum(1) for t in own.values())
            chosen = torch.zeros(cfg.rows, dtype=torch.bool, device=own["D"].device)
            chosen[torch.sort(torch.as_tensor(score), descending=True, stable=True).indices[: _count(cfg)]] = True
            for name, tensor in own.items():
                mask = chosen.view(-1, *(1 for _ in tensor.shape[1:])).expand_as(tensor)
                with torch.no_grad():
                    tensor.mul_(0 if cfg.reset else mask)
                session.mask(state.key(name), mask)

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        tensors, targets = {**adapter.tensors}, {**adapter.targets}
        for path, target in adapter.targets.items():
            if not target.config["finished"]:
                D, b = tensors.pop(f"{path}:D"), tensors.pop(f"{path}:b", None)
                i = session.memory.get(f"{path}:D.mask", D != 0).to(D.device).any(1).nonzero()[:, 0]
                tensors |= {f"{path}:i": i, f"{path}:v": D[i], **({} if b is None else {f"{path}:c": b[i]})}
                targets[path] = dataclasses.replace(target, config={**target.config, "n": len(i)})
        return super().finish(session, adapter.replace(tensors=tensors, targets=targets))


def _count(cfg: Config) -> int:
    return max(1, round(cfg.share * cfg.rows))
