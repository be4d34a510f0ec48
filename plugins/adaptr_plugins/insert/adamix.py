"""AdaMix: y = h + U g(D_j h + b_j) + b_u, j drawn for each forward in training, the mean of all afterwards.  Wang et
al. 2022, arXiv:2205.12410.

At the feed-forward's output, all experts with one U, or with `share_up=False` with one of its own each, drawn apart
from D. The loss is that of one forward and `consistency` times half the divergence of two with other draws, in both
directions (of numbers their squared distance). When training is finished the experts' mean is kept, which is one plain
bottleneck; until then it is what is attached. Fresh all experts are alike, without which a mean means nothing, and U is
zero, so it is the identity. The paper's code has it before the dropout: name that place in `targets`.

Choose it for encoders with few records, where a bottleneck learns too much by heart: in the paper it came out above
full fine-tuning at the same cost once trained. Each step is two forwards. It can't be merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Insert, Param, Target, View
from adaptr.contract import Live, Mount
from adaptr.families.insert import activation
from adaptr_plugins.insert._mixing import drawing, meant, objective, of_forward

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adaptr import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session

DOWN, UP = ("D", "b"), ("U", "b_u")


@dataclass(frozen=True)
class Config:
    m: int = 48
    experts: int = 4
    consistency: float = 1.0
    share_up: bool = True
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "gelu"


class AdaMix(Insert[Config]):
    name = "adamix"
    params = {
        "D": Param("experts m d", init="truncated:0.02"),
        "b": Param("experts m"),
        "U": Param("ups d m"),
        "b_u": Param("ups d"),
    }
    targets = ("ffn_out",)
    small = {"m": 8}

    @property
    def alone(self) -> bool:
        """Only training draws."""
        return True

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"ups": 1 if cfg.share_up else cfg.experts}

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        return drawing(super().mounts(model, adapter), adapter.targets)

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        made = super().init(target, base, generator)
        return {**made, "D": made["D"][:1].expand_as(made["D"]).clone()}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import linear

        D, b = of_forward(p, DOWN, 0)
        U, b_u = of_forward(p, UP, 1)
        return linear(activation(cfg.activation)(linear(h, D, b)), U, b_u)

    def objective(self, session: Session, run: Run) -> Tensor:
        return objective(run, self.config(session.adapter.config))

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        return super().finish(session, meant(adapter, (*DOWN, *UP)))
