"""Last token: y = h + v at the last token of each prompt.

Invented for this example; no paper. A prompt that is continued in a second call over its cache is refused, as its last
token was not known in the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Insert, Param
from adaptr.contract import Live
from adaptr_gain.prompt_continued import PromptContinued

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host.context import Context


@dataclass(frozen=True)
class Config:
    s: float = 1.0


class LastToken(Insert[Config]):
    name = "last-token"
    params = {"v": Param("d")}
    targets = ("block_out",)
    unmergeable = "positions"
    context = True

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        where = p.context.once("last token", lambda: last(p.context))
        return (cfg.s * p["v"]).expand_as(h).where(where[..., None], 0)


def last(context: Context) -> Tensor:
    """(batch, tokens) of bool: the last token of each prompt; none behind a cache that is filled."""
    import torch

    real = context.real()
    if not torch.compiler.is_compiling() and real.shape[1] > 1 and bool(context.offset):
        raise PromptContinued(
            "`last-token` changes the last token of a prompt, and here one goes on that has begun in another call over "
            "the same cache; give it in one call"
        )
    return real & context.prompted() & (real.flip(1).cumsum(1).flip(1) == 1)
