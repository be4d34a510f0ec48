"""QLoRA: W' = Q(W) + s B A, Q the way to NF4 and back, doubly quantised.  Dettmers et al. 2023, arXiv:2305.14314.

LoRA that is trained over a base in four bits, and says so: on the base as it was, Q is computed and applied before the
change is added, in what is merged too, as that is what was learnt around; plain LoRA on W itself would be another
function. `adaptr train` loads the base in NF4 with double quantisation for it, by bitsandbytes, unless something else
is said; `--optimizer paged_adamw` is for CUDA and refused elsewhere. The paper's rank, alpha, dropout and rate are of
its scripts and not confirmed by its text. Fresh, it is the base in NF4.

Choose it where the base does not fit in the memory in more than four bits, and what is served will be what was trained.
A step takes longer than on a base in bf16. It has no delta without its base; LoRA with `--base-quant nf4` has one, and
forgets what it was learnt around.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adaptr_plugins.transform import _nf4


@dataclass(frozen=True)
class Config(_nf4.Config):
    r: int = 64
    dropout: float = 0.05
    double: bool = True


class QLoRA(_nf4.OverNF4[Config]):
    name = "qlora"
    recipe: ClassVar = {"base_quant": "nf4", "double_quant": True}
    small = {"r": 2, "alpha": 2.0}
    kept_within = 0.05  # dropout's inputs are kept for several layers at once
