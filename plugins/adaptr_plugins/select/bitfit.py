"""BitFit: b' = b + db for the biases alone.  Ben Zaken et al. 2021, arXiv:2106.10199.

Stored as differences, which add; a module without a bias is not a target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Param, SelectBias, Target

if TYPE_CHECKING:
    from torch import nn


class BitFit(SelectBias):
    name = "bitfit"
    params = {"b": Param("out")}
    targets = ("re:.*",)

    @dataclass(frozen=True)
    class Config:
        pass

    def accepts(self, model: nn.Module, target: Target) -> bool:
        return model.get_submodule(target.path)._parameters.get("bias") is not None
