"""CPT, context-aware prompt tuning: the model reads [E + D; E(x)], E of the words of examples, |D_i| <= ε_i.  Blau et
al. 2024, arXiv:2410.17222.

`text`, or `ids`, are the examples; `types` say of each token what it is, by its remainder by 4: 1 and 3 are the form of
inputs and outputs, 2 an input, 0 an output, and 0 itself none of these. Inputs learn within `eps`, form within
`eps_form`, both times sqrt(d / 2048), projected after each step; outputs stay as they are, and predicting them is part
of the loss in training, `decay` as much of it for the last example, and as much less for each before; 1 is for all
alike. Without types all is input. `finish` leaves the sum. For decoders. Not the identity when fresh: tokens in front
are read.

Choose it where a handful of examples in the prompt is what works already, to refine them with little risk of
overfitting. It costs the places of the examples in the context. It can't be merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Param, SoftPrompt, Target
from adaptr.contract import Costs, Live, Run
from adaptr.errors import BadConfig, Unsupported
from adaptr_plugins.prompt._words import embedded, table_of, worded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    tokens: int = 1
    text: str = ""
    ids: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    eps: float = 0.1
    eps_form: float = 0.1
    decay: float = 1.0
    apart: bool = True


class CPT(SoftPrompt[Config]):
    name = "cpt"
    params = {
        "P": Param("tokens d", unless="apart"),
        "E": Param("tokens d", when="apart", trains=False),
        "D": Param("tokens d", when="apart"),
    }
    least = {"decay": 0}
    plain = {"apart": False}
    small = {"ids": [5, 9, 4], "types": [1, 2, 3], "eps": 4.0, "eps_form": 4.0}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        if getattr(model.config, "is_encoder_decoder", False):
            raise Unsupported("`cpt` is made of examples that a decoder goes on from", hint="choose `prompt`")
        values = worded(model, self.name, values)
        return {"types": [2] * len(values.get("ids", ())), **values}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.apart and not (cfg.ids and len(cfg.ids) == len(cfg.types) == cfg.tokens):
            raise BadConfig(
                f"`{self.name}`: `text` or `ids`, and `types`",
                got=f"{len(cfg.ids)} ids and {len(cfg.types)} types",
                want=f"one of each for all tokens, {cfg.tokens}",
            )
        return {}

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        if table_of(model).weight.is_meta:
            return adapter
        E = embedded(model, self.name, adapter.config["ids"])
        return adapter.replace(tensors={**adapter.tensors, ":E": E})

    def prompt(self, p: Live, cfg: Config) -> Tensor:
        return p["E"] + p["D"] if cfg.apart else p["P"]

    def labels(self, cfg: Config) -> list[int]:
        if len(cfg.ids) != cfg.tokens:  # several were put together
            return []
        return [i if kind > 0 and kind % 4 == 0 else -100 for i, kind in zip(cfg.ids, cfg.types, strict=True)]

    def shares(self, cfg: Config) -> list[float]:
        """An example's outputs have a type of their own, the larger the later it is."""
        if cfg.decay == 1.0 or len(cfg.types) != cfg.tokens:
            return []
        outputs = sorted({kind for kind in cfg.types if kind > 0 and kind % 4 == 0}, reverse=True)
        return [cfg.decay ** (outputs.index(kind) + 1) if kind in outputs else 1.0 for kind in cfg.types]

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(longer=cfg.tokens)

    # ------------------------------------------------------------ training

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        """Outputs don't learn."""
        import torch

        free = [kind % 4 > 0 for kind in self.config(session.adapter.config).types]
        for key, D in session.named().items():
            if key in {":D", ":P"} and len(D) == len(free):
                session.mask(key, torch.tensor(free)[:, None].expand_as(D))

    def after_step(self, session: Session) -> None:
        """Back into the balls around the words."""
        import torch

        cfg, D = self.config(session.adapter.config), session.named().get(":D")
        if D is None:
            return
        eps = [{0: 0.0, 2: cfg.eps}.get(kind % 4, cfg.eps_form) * (D.shape[1] / 2048) ** 0.5 for kind in cfg.types]
        with torch.no_grad():
            most = torch.tensor(eps, device=D.device)[:, None]
            D.mul_((most / D.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1.0))
