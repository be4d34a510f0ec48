"""AdaMix: y = h + U g(D_j h + b_j) + b_u, j drawn for each forward in training, the mean of all afterwards.  Wang et
al. 2022, arXiv:2205.12410.

At the feed-forward's output, where all experts have one U. The loss is that of one forward, and half the divergence
between two with other draws, in both directions. When training is finished the experts' mean is kept, one adapter; so
it is attached before that, too. Fresh all experts are alike, without which a mean means nothing, and U is zero.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from adaptr import Insert, Param, Target, View
from adaptr.contract import Live, Mount

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session

MEANT = ("D", "b")


@dataclass(frozen=True)
class Config:
    m: int = 48
    experts: int = 4
    consistency: float = 1.0


class AdaMix(Insert[Config]):
    name = "adamix"
    params = {
        "D": Param("experts m d", init="truncated:0.02"),
        "b": Param("experts m"),
        "U": Param("d m"),
        "b_u": Param("d"),
    }
    targets = ("ffn_out",)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """Only several are drawn from: what is finished costs what an adapter costs."""
        draws = {path for path, target in adapter.targets.items() if self.config(target.config).experts > 1}
        return [dataclasses.replace(m, context=m.path in draws) for m in super().mounts(model, adapter)]

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        made = super().init(target, base, generator)
        return {**made, "D": made["D"][:1].expand_as(made["D"]).clone()}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import gelu, linear

        draws = p.training and cfg.experts > 1
        D, b = (self._drawn(p, name, cfg) if draws else p[name].mean(0) for name in MEANT)
        return linear(gelu(linear(h, D, b)), p["U"], p["b_u"])

    def _drawn(self, p: Live, name: str, cfg: Config) -> Tensor:
        """That of the forward's expert, picked so that all experts are one graph."""
        return p[name].index_select(0, p.draw(cfg.experts)[None])[0]

    def objective(self, session: Session, run: Run) -> Tensor:
        cfg = self.config(session.adapter.config)
        loss, output = run()
        if not cfg.consistency:
            return loss
        one, two = (_logits(found).float().log_softmax(-1) for found in (output, run()[1]))
        return loss + cfg.consistency / 2 * (_divergence(one, two) + _divergence(two, one))

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        one = {"experts": 1}
        means = {
            f"{path}:{name}": adapter.at(path)[name].mean(0, keepdim=True) for path in adapter.targets for name in MEANT
        }
        targets = {path: dataclasses.replace(t, config={**t.config, **one}) for path, t in adapter.targets.items()}
        made = adapter.replace(config={**adapter.config, **one}, targets=targets, tensors={**adapter.tensors, **means})
        return super().finish(session, made)


def _logits(output: Any) -> Tensor:
    return cast("Tensor", output.logits if hasattr(output, "logits") else output[0])


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p, q) of logarithms, the mean over all but the classes; q gets no gradient."""
    return (p.exp() * (p - q.detach())).sum(-1).mean()
