"""P-tuning: the model reads [P; E(x)], P = MLP(BiLSTM(Z)) of learned rows Z, or MLP(Z).  Liu et al. 2021,
arXiv:2103.10385.

The encoder is for training: `finish`, and `adaptr convert --method`, leave P alone. `lstm`, as in the paper's code, is
two bidirectional layers of `hidden` a direction, half the model's width if that is not said, and a ReLU network of two
layers; `mlp` is PEFT's three layers. The base stays as it is, where the paper's code often trains it too. Not the
identity when fresh: tokens in front are read.

Rows stand in front of the text, or with `marker`, a word of the base's tokenizer that texts don't have otherwise, where
a text says that word: as often as there are `tokens`, any words of the text between them, such as the template's
anchors. `slot` is its id. Lengths, positions and padding stay the text's own. Nothing is to be predicted at a slot.
Files of PEFT have rows in front alone, and a cache none inside a text.

Choose it over `prompt` where that learns too slowly: tokens that come out of one network move together. It costs a
small network while it trains and, afterwards, what a prompt costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, SoftPrompt, Target
from adaptr.contract import Costs, Live
from adaptr_plugins.prompt._words import slotted

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    tokens: int = 20
    rows: int = 20
    encoder: Literal["lstm", "mlp", "none"] = "lstm"
    hidden: int = 1
    dropout: float = 0.0
    marker: str = ""
    slot: int = -1


class PTuning(SoftPrompt[Config]):
    name = "p-tuning"
    params = {
        "P": Param("rows d", init="normal:0.02", when="encoder=none"),
        "Z": Param("tokens d", init="normal:1", unless="encoder=none"),
        # for each direction its input, its state and the two biases of the four gates
        "U": Param("2 gates d", when="encoder=lstm"),
        "V": Param("2 gates hidden", when="encoder=lstm"),
        "b": Param("2 2 gates", when="encoder=lstm"),
        "U2": Param("2 gates wide", when="encoder=lstm"),
        "V2": Param("2 gates hidden", when="encoder=lstm"),
        "b2": Param("2 2 gates", when="encoder=lstm"),
        "A": Param("wide into", unless="encoder=none"),
        "a": Param("wide", unless="encoder=none"),
        "M": Param("wide wide", when="encoder=mlp"),
        "m": Param("wide", when="encoder=mlp"),
        "O": Param("d wide", unless="encoder=none"),
        "o": Param("d", unless="encoder=none"),
    }
    plain = {"encoder": "none", "hidden": 1, "dropout": 0.0}
    least = {"slot": -1}
    small = {"tokens": 3, "hidden": 4}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        d, values = places[0].shape[0], slotted(model, self.name, values)
        hidden = d if values.get("encoder") == "mlp" else max(d // 2, 1)
        return {"rows": values.get("tokens", 20), "hidden": hidden, **values}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        wide = 2 * cfg.hidden if cfg.encoder == "lstm" else cfg.hidden
        super().axes(target, cfg)
        return {"gates": 4 * cfg.hidden, "wide": wide, "into": wide if cfg.encoder == "lstm" else target.shape[0]}

    def init_rule(self, param: str, target: Target) -> str:
        """Of the network as torch begins it."""
        if param in {"P", "Z"}:
            return self.params[param].init
        cfg = self.config(target.config)
        axes = self.axes(target, cfg)
        fan = {"A": axes["into"], "a": axes["into"]}.get(param, axes["wide"]) if param in "AaMmOo" else cfg.hidden
        return f"kaiming:{fan}"

    def prompt(self, p: Live, cfg: Config) -> Tensor:
        if cfg.encoder == "none":
            return p["P"][: cfg.tokens]
        return p.derived("P", p.sources(1.0), lambda: encoded(p, cfg))

    def costs(self, target: Target, cfg: Config) -> Costs:
        kept = {"lstm": 50, "mlp": 3}.get(cfg.encoder, 0) * cfg.tokens * cfg.hidden
        # torch lays the weights of an LSTM together anew
        copied = 8 * cfg.hidden * (target.shape[0] + 4 * cfg.hidden) if cfg.encoder == "lstm" else 0
        return Costs(longer=cfg.tokens if cfg.slot < 0 else 0, once=kept + copied)


def encoded(p: Live, cfg: Config) -> Tensor:
    """P (tokens, d) of what it is computed of."""
    import torch
    from torch.nn.functional import linear

    x = p["Z"]
    if cfg.encoder == "lstm":
        weights = [t for n in ("", "2") for way in (0, 1) for t in _way(p, n, way)]
        start = x.new_zeros(4, 1, cfg.hidden)
        drops = cfg.dropout if p.training else 0.0
        x = torch.lstm(x[None], (start, start), weights, True, 2, drops, p.training, True, True)[0][0]
    x = linear(x, p["A"], p["a"]).relu()
    if cfg.encoder == "mlp":
        x = linear(x, p["M"], p["m"]).relu()
    return linear(x, p["O"], p["o"])


def _way(p: Live, layer: str, way: int) -> tuple[Tensor, ...]:
    """What torch's LSTM takes of a layer in one direction."""
    return p[f"U{layer}"][way], p[f"V{layer}"][way], *p[f"b{layer}"][way]
