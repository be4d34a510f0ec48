"""Interventions on the hidden states of a prompt's first and last tokens: what ReFT's forms share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from adaptr import Insert, Param, Target
from adaptr.contract import Costs, Live
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host.context import Context


@dataclass(frozen=True)
class Config:
    r: int = 8
    first: int = 7
    last: int = 7
    share_weights: bool = True
    dropout: float = 0.0


class Ends(NamedTuple):
    """(batch, tokens) of bool: the first tokens of each prompt, and the last ones that are none of these."""

    first: Tensor
    last: Tensor


P = TypeVar("P", bound=Config)


def table(out: str, into: str, init: str = "kaiming") -> dict[str, Param]:
    """The tensors: out and into (r, d) and b (r), and those of the last tokens (`_s`) where these have their own."""
    one = {out: Param("r d", init=init), into: Param("r d", init="kaiming"), "b": Param("r", init="kaiming")}
    last = {f"{name}_s": Param(param.axes, init=param.init, unless="share_weights") for name, param in one.items()}
    return {**one, **last}


class Reft(Insert[P]):
    """A subclass supplies `change(h, p, cfg, suffix)`, what is added to h (..., d) by the tensors of that suffix."""

    formulas: ClassVar[tuple[str, ...]] = ("change",)
    targets: ClassVar[tuple[str, ...]] = ("block_out",)
    unmergeable: ClassVar[str] = "positions"
    possible: ClassVar[str] = "keep it attached"
    context: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    averages: ClassVar[bool] = False  # of products, which the product of means is not
    least: ClassVar[Mapping[str, int]] = {"first": 0, "last": 0}
    rate: ClassVar[float] = 9e-4
    small = {"r": 4, "first": 2, "last": 1}
    #: What making a basis keeps for the backward, for each of its numbers.
    basis: ClassVar[int] = 0

    def change(self, h: Tensor, p: Live, cfg: P, suffix: str) -> Tensor:
        raise NotImplementedError

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: P) -> Tensor:
        from torch.nn.functional import dropout

        at = p.context.once((self.name, cfg.first, cfg.last), lambda: ends(p.context, h, cfg.first, cfg.last))
        if at.first.shape != h.shape[:-1]:
            raise Unsupported(
                f"`{self.name}` at `{p.place}`: a block puts out {tuple(h.shape[:-1])} for tokens of shape "
                f"{tuple(at.first.shape)}, so which of them stand where is not known",
                hint="leave that block out of the targets",
            )
        change = self.change(h, p, cfg, "")
        if cfg.share_weights:
            change = change.where((at.first | at.last)[..., None], 0)
        else:
            change = change.where(at.first[..., None], self.change(h, p, cfg, "_s").where(at.last[..., None], 0))
        return dropout(change, cfg.dropout, p.training)

    def init_rule(self, param: str, target: Target) -> str:
        """A bias starts as that of a linear layer from d."""
        return f"kaiming:{target.shape[0]}" if param[0] == "b" else super().init_rule(param, target)

    def costs(self, target: Target, cfg: P) -> Costs:
        d, sets = target.shape[0], 2 - cfg.share_weights
        return Costs(token=d + sets * cfg.r, once=self.basis * sets * cfg.r * d, flops=6 * sets * cfg.r * d)


def ends(context: Context, h: Tensor, first: int, last: int) -> Ends:
    """Where the ends of prompts are; nowhere behind a cache that is filled. Of what is no text, of all of h.

    Texts that are packed into a row have ends of their own. Raises `Unsupported` where a prompt goes on that was begun
    in another call, as its last tokens were not known there.
    """
    import torch

    if context.has_tokens:
        real, at = context.real(), context.positions()
        if last and not torch.compiler.is_compiling() and real.shape[1] > 1 and bool(context.offset):
            raise Unsupported(
                "a prompt goes on that has begun in another call over the same cache, so that what were its last "
                "tokens are others now",
                hint="give it in one call",
            )
        real = real & context.prompted()
    else:
        real = torch.ones(h.shape[:2], dtype=torch.bool, device=h.device)
        at = real.long().cumsum(1) - 1
    text = ((at == 0) & real).long().cumsum(1)
    length = text.new_zeros(len(text), text.shape[1] + 1).scatter_add(1, text, real.long())
    front = real & (at < first)
    return Ends(front, real & (length.gather(1, text) - 1 - at < last) & ~front)
