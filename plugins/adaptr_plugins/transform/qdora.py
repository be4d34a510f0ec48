"""QDoRA: W' = m (Q + s B A) / ‖Q + s B A‖, Q a base stored in 4 bits.  Dettmers et al. 2023 and Liu et al. 2024,
arXiv:2402.09353.

DoRA trained on a packed base: norms are of what the codes stand for, and the adapter is of that base. It can be merged
into floats of Q, not of the weights that Q was made from. The defaults are DoRA's for language models ([M]).

Choose it where the base is in 4 bits and LoRA is not enough. It costs what DoRA costs, on decoded weights. Merged
into the weights that the codes were made from it is another model, which is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptr_plugins.transform.dora import Config as DoRAConfig
from adaptr_plugins.transform.dora import DoRA


@dataclass(frozen=True)
class Config(DoRAConfig):
    r: int = 32
    alpha: float = 64.0


class QDoRA(DoRA):
    name = "qdora"
    Config = Config
    small = {"r": 4}
