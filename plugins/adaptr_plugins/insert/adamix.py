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

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Insert, Param, Target, View
from adaptr.contract import Live, Mount
from adaptr.errors import Unsupported
from adaptr.families.insert import activation

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
        """Only several are drawn from: what is finished costs what an adapter costs."""
        draws = {path for path, target in adapter.targets.items() if self.config(target.config).experts > 1}
        return [dataclasses.replace(m, context=m.path in draws) for m in super().mounts(model, adapter)]

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        made = super().init(target, base, generator)
        return {**made, "D": made["D"][:1].expand_as(made["D"]).clone()}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import linear

        D, b = _of_forward(p, DOWN, 0)
        U, b_u = _of_forward(p, UP, 1)
        return linear(activation(cfg.activation)(linear(h, D, b)), U, b_u)

    def objective(self, session: Session, run: Run) -> Tensor:
        cfg = self.config(session.adapter.config)
        loss, output = run()
        if not cfg.consistency or cfg.experts == 1:
            return loss
        pairs = zip(_logits(output), _logits(run()[1]), strict=True)
        return loss + cfg.consistency * sum(_apart(one, other) for one, other in pairs)

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        one = {"experts": 1}
        means = {
            f"{path}:{name}": adapter.at(path)[name].mean(0, keepdim=True)
            for path in adapter.targets
            for name in (*DOWN, *UP)
        }
        targets = {path: dataclasses.replace(t, config={**t.config, **one}) for path, t in adapter.targets.items()}
        made = adapter.replace(config={**adapter.config, **one}, targets=targets, tensors={**adapter.tensors, **means})
        return super().finish(session, made)


def _of_forward(p: Live, names: tuple[str, ...], stream: int) -> Iterator[Tensor]:
    """The tensors of the forward's expert, picked so that all experts are one graph; their means outside training."""
    n = p[names[0]].shape[0]
    if not p.training or n == 1:
        yield from (p[name].mean(0) if n > 1 else p[name][0] for name in names)
        return
    drawn = p.draw(n, stream)[None]
    yield from (p[name].index_select(0, drawn)[0] for name in names)


def _logits(output: object) -> list[Tensor]:
    """All that a head has put out."""
    items = output.items() if isinstance(output, Mapping) else ()
    found = [value for key, value in items if key.endswith("logits")]
    if not found:
        raise Unsupported(
            "`adamix` compares what a model puts out in two forwards, and this task's output has no logits",
            hint="say `consistency=0`, or choose `houlsby`",
        )
    return found


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """Half of KL in both directions, the mean over all but the classes; of single numbers their squared distance."""
    one, other = one.float(), other.float()
    if one.shape[-1] == 1:
        return (one - other).square().mean()
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    return sum(((a.exp() * (a - b.detach())).sum(-1).mean() for a, b in ((p, q), (q, p))), p.new_zeros(())) / 2
