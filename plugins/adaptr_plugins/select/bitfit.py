"""BitFit: b' = b + db for the biases alone.  Ben Zaken et al. 2021, arXiv:2106.10199.

Stored as differences, which add; a module without a bias is not a target.

Choose it for encoders with biases and few records: nothing is added, it merges, and a thousandth of the numbers comes
near to full fine-tuning of BERT in the paper. Most decoders of today have no biases, and there it has nothing to
change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr import Operator, Param, SelectBias, Target
from adaptr.contract import Costs
from adaptr.contract.capabilities import BIAS
from adaptr.contract.settings import Nothing

if TYPE_CHECKING:
    from torch import Tensor, nn


class BitFit(SelectBias[Nothing]):
    name = "bitfit"
    params = {"b": Param("out")}
    targets = ("re:.*",)
    forms = frozenset({BIAS})
    default_for = frozenset({BIAS})

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        assert op is None
        assert bias is not None
        return {}, {"b": bias}

    def accepts(self, model: nn.Module, target: Target) -> bool:
        return model.get_submodule(target.path)._parameters.get("bias") is not None

    def costs(self, target: Target, cfg: Nothing) -> Costs:
        return Costs()

    def changes(self, target: Target, cfg: Nothing) -> int:
        return target.shape[0]
