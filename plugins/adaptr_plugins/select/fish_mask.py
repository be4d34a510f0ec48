"""FISH Mask: W' = W + S, S zero but where the Fisher information of the base is largest.  Sung et al. 2021,
arXiv:2111.09839.

F = 1/N Σₙ E_y (∂ log p(y | xₙ) / ∂θ)², of each example by itself, without dropout, before training. `fisher`: the
expectation over classes, each by its probability (`expect`); the gradient of the example's own loss (`label`), which
wants batches of one, as a square of means is no mean of squares; or that square all the same (`batch`). Empty: `expect`
for classifiers, `label` for the rest. The `share` is of the whole model; what is trained whole (`also`, a head) is a
part of it and always learns.

Choose it where few numbers should be trained, chosen by a pass over some data before. It costs a gradient of each
example by itself at first, and the memory of full fine-tuning. Where the data of that pass are not the task's, it
trains the wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr.errors import UsageError
from adaptr.families.masked import Masked, Masking

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(Masking):
    fisher: Literal["", "expect", "label", "batch"] = ""


class FishMask(Masked[Config]):
    name = "fish-mask"

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        import torch

        cfg, own = self.config(session.adapter.config), self._own(session)
        if cfg.finished:
            return
        F = {key: torch.zeros_like(p, dtype=torch.float32) for key, p in own.items()}
        training = session.model.training
        session.model.eval()
        for run in data:
            loss, output = run()
            logits: Tensor = output.logits if hasattr(output, "logits") else output[0]
            for weight, value in terms(loss, logits, cfg.fisher):
                found = torch.autograd.grad(value, list(own.values()), retain_graph=True, allow_unused=True)
                for key, g in zip(own, found, strict=True):
                    F[key] += 0 if g is None else weight * g.float() ** 2
        session.model.train(training)
        whole = sum(p.numel() for key, p in session.named().items() if key not in own)
        every = sum(p.numel() for name, p in session.model.named_parameters() if ".adapters." not in name)
        count = int(cfg.share * every) - whole
        if count < 1:
            raise UsageError(f"`fish-mask`: `share` {cfg.share} is less than what is trained whole", hint="raise it")
        self.choose(session, F, count)

    def _own(self, session: Session) -> dict[str, Tensor]:
        return {key: p for key, p in session.named().items() if not key.endswith(":=")}


def terms(loss: Tensor, logits: Tensor, kind: str) -> Iterator[tuple[float, Tensor]]:
    """What the squares of the gradients of are summed for a batch, each with its weight."""
    if (kind or ("expect" if logits.ndim == 2 else "label")) != "expect":
        if kind != "batch" and len(logits) != 1:
            raise UsageError(
                f"`fish-mask` wants examples one by one, and a batch has {len(logits)}",
                hint='train with batches of one, accumulated (`batch_size`=1), or take `fisher="batch"`',
            )
        yield 1.0, loss
        return
    log_p = logits.float().log_softmax(-1)
    for one in log_p.flatten(0, -2):
        yield from ((float(value.detach().exp()), value) for value in one)
