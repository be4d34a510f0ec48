"""Prompt tuning: the model reads [P; E(x)], P (tokens, d) trained, everything else frozen.  Lester et al. 2021,
arXiv:2104.08691.

P starts as the embeddings of tokens drawn without replacement: the paper's uniform in +-0.5 fits T5's scale only. With
`text`, or `ids`, it starts as theirs, cut or said again to the end of `tokens`, and those of its rows that are `frozen`
stay words: a discrete prompt with soft tokens in it. In encoder-decoder models P goes to the encoder. Some files hold
`submodules` times the rows; the first `tokens` count. Not the identity when fresh: tokens in front are read.

With `place` embeddings P stands in front of what an encoder's embeddings make of the text, and gets no positions, types
or norm; with `ahead` that many of the text's own tokens stay in front of it, such as the one that classifies.

Choose it where an adapter must be a few rows in front of the text, on a base of billions: there it comes near to full
fine-tuning in the paper. On small models it stays far behind LoRA, wants a rate thirty times LoRA's, and takes places
of the context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, SoftPrompt, Target
from adaptr.contract import Costs, Live, Run
from adaptr.errors import BadConfig
from adaptr_plugins.prompt._words import embedded, table_of, worded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    tokens: int = 20
    rows: int = 20
    init: Literal["vocab", "normal", "text"] = "vocab"
    text: str = ""
    ids: list[int] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)
    place: Literal["words", "embeddings"] = "words"
    ahead: int = 0


class Prompt(SoftPrompt[Config]):
    name = "prompt"
    small = {"tokens": 3}
    least = {"ahead": 0}
    # PEFT's examples have it, the paper ten times that with Adafactor; at 1e-3 hardly anything is learned
    rate = 3e-2
    params = {"P": Param("rows d", init="normal:0.02")}

    def prompt(self, p: Live, cfg: Config) -> Tensor:
        return p["P"][: cfg.tokens]

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(longer=cfg.tokens)

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        values = worded(model, self.name, values)
        tokens = values.get("tokens", 20)
        return {"rows": tokens, **values, **({"init": "text"} if values.get("ids") else {})}

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        said, table = adapter.config, table_of(model)
        if said["init"] == "normal" or table.weight.is_meta:
            return adapter
        import torch

        tokens, rows = said["tokens"], said["rows"]
        ids = said["ids"] or drawn(self.name, table.num_embeddings, tokens, seed)
        P = embedded(model, self.name, [ids[i % len(ids)] for i in range(tokens)])
        P = torch.cat([P, P.new_zeros(rows - tokens, P.shape[1])])
        return adapter.replace(tensors={**adapter.tensors, ":P": P})

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        """Rows that stay words don't learn."""
        frozen = self.config(session.adapter.config).frozen
        if frozen:
            import torch

            entries = torch.ones_like(session.named()[":P"], dtype=torch.bool)
            entries[frozen] = False
            session.mask(":P", entries)


def drawn(method: str, words: int, tokens: int, seed: int) -> list[int]:
    """Ids of as many different words as there are tokens."""
    import torch

    if words < tokens:
        raise BadConfig(f"`{method}`: {tokens} tokens can't be drawn from {words}", hint="use init=`normal`")
    found: list[int] = torch.randperm(words, generator=torch.Generator().manual_seed(seed))[:tokens].tolist()
    return found
