"""MAD-X: a language as an invertible adapter at the embeddings and a `pfeiffer` of half the width in each layer.
Pfeiffer et al. 2020, arXiv:2005.00052.

Train it on texts of a language; then a task's `pfeiffer` on top of it, which stays as it is: `adaptr train --method
pfeiffer --below en.safetensors`. Over another language's adapter the task is in that. Not the identity when fresh, as
its parts are not. Sizes beside the invertible part's are not confirmed ([M]).

Choose it to bring a task to languages that have texts and no labels. It costs a twentieth of a base of encoders for
each language, and all tokens pay for it; it can't be merged. Within one language `pfeiffer` alone is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Composite, Target, targets

if TYPE_CHECKING:
    from torch import nn

    from adaptr.targets import Spec


@dataclass(frozen=True)
class Config:
    """`m`: of the adapters, half of the model's width if none is said."""

    m: int = 384
    reduction: int = 2


class MADX(Composite[Config]):
    name = "mad-x"

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        return {"m": targets.hidden_size(model) // 2, **values}

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {
            "invertible": ("invertible", None, {"reduction": cfg.reduction}),
            "language": ("pfeiffer", None, {"m": cfg.m}),
        }
