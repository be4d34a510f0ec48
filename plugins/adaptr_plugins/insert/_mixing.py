"""AdaMix's experts: drawn for each forward in training, told apart by two forwards of a batch, one when finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr import Adapter, Target
    from adaptr.contract import Live, Mount, Run


class Mixed(Protocol):
    """How many experts there are, and how much it weighs that two forwards differ."""

    @property
    def experts(self) -> int: ...
    @property
    def consistency(self) -> float: ...


def of_forward(p: Live, names: tuple[str, ...], stream: int) -> Iterator[Tensor]:
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
            "it compares what a model puts out in two forwards, and this task's output has no logits",
            hint="say `consistency=0`, or choose another method",
        )
    return found


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """Half of KL in both directions, the mean over all but the classes; of single numbers their squared distance."""
    one, other = one.float(), other.float()
    if one.shape[-1] == 1:
        return (one - other).square().mean()
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    return sum(((a.exp() * (a - b.detach())).sum(-1).mean() for a, b in ((p, q), (q, p))), p.new_zeros(())) / 2


def objective(run: Run, cfg: Mixed) -> Tensor:
    """The loss of one forward, and how far two are apart."""
    loss, output = run()
    if not cfg.consistency or cfg.experts == 1:
        return loss
    pairs = zip(_logits(output), _logits(run()[1]), strict=True)
    return loss + cfg.consistency * sum(_apart(one, other) for one, other in pairs)


def drawing(mounts: Sequence[Mount], targets: Mapping[str, Target]) -> list[Mount]:
    """Only several are drawn from: what is finished costs what an adapter costs."""
    return [dataclasses.replace(m, context=targets[m.path].config["experts"] > 1) for m in mounts]


def meant(adapter: Adapter, names: Sequence[str]) -> Adapter:
    """`adapter` with one expert, the mean of its own, in each of these tensors."""
    one: dict[str, Any] = {"experts": 1}
    means = {
        f"{path}:{name}": adapter.at(path)[name].mean(0, keepdim=True) for path in adapter.targets for name in names
    }
    targets = {path: dataclasses.replace(t, config={**t.config, **one}) for path, t in adapter.targets.items()}
    return adapter.replace(config={**adapter.config, **one}, targets=targets, tensors={**adapter.tensors, **means})
