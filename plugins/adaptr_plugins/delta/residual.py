"""Residual adapters: W' = W + A in the middle of the kernel, a convolution 1 x 1 beside one of 3 x 3.  Rebuffi, Bilen
and Vedaldi 2018, arXiv:1803.10082.

The parallel form: z' = conv(x, W) + conv1x1(x, A) with the same stride, which is one kernel, so that it is merged and
taken out exactly. A starts at zero, for the identity. Norms over batches are each task's: `adaptr train` trains those
of the base with it (γ, β and the running statistics, which go into the file) unless `also` says something else; in
Python say `also=["norm"]`. All convolutions of 3 x 3 that keep the size are adapted: leave a stem out of the targets,
which the paper freezes. The series form of 2017 is `residual-series`.

Choose it for networks of convolutions that should see many kinds of images, each by a ninth of the weights. It wants a
strong weight decay where there are few images. A model without such convolutions, as a ViT, is for `lora`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adaptr import Delta, Dense, Param, Target, targets
from adaptr.contract import Live

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config:
    pass


class Residual(Delta[Config]):
    name = "residual"
    params = {"A": Param("out in")}
    kinds = frozenset({"conv2d"})
    wants = "convolutions of 3 x 3 that keep the size"
    targets = ("type:conv2d",)
    recipe: ClassVar = {"also": ("norm",)}
    portable = True

    def accepts(self, model: nn.Module, target: Target) -> bool:
        """Padded so that the middle of the kernel falls on what a kernel of 1 x 1 with that stride reads."""
        conv = targets.submodule(model, target.path)
        padding, zeros = getattr(conv, "padding", ""), getattr(conv, "padding_mode", "") == "zeros"
        return target.shape[2:] == (3, 3) and padding in {"same", getattr(conv, "dilation", "")} and zeros

    def delta(self, p: Live, cfg: Config) -> Dense:
        from torch.nn.functional import pad

        return Dense(pad(p["A"][..., None, None], (1, 1, 1, 1)))
