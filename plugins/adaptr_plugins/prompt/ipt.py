"""Intrinsic prompt tuning: the model reads [P; E(x)], P = D2 tanh(D1 z + d1) + d2, z (intrinsic) alone trained.  Qin et
al. 2021, arXiv:2110.07867.

The decoder D is what prompts of many tasks share: `adaptr.create(model, "ipt", children={...})` of trained prompts fits
it, with an encoder that is not kept, to give them back; the paper's first phase has the loss of the base with what
comes back as well, which is not here. Without children D is random, and stays so. `finish` leaves P alone, and so does
`adaptr convert --method prompt`, from which training goes on as in the paper's last phase. Not the identity when fresh:
tokens in front are read.

Choose it for tasks with a few records beside many like it whose prompts are there: some ten numbers are hard to
overfit. While it trains the decoder is there, thousands of times what is trained. It can't be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, SoftPrompt, Target, plugins
from adaptr.contract import Costs, Live
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    tokens: int = 20
    intrinsic: int = 10
    hidden: int = 768
    steps: int = 1000


class IPT(SoftPrompt[Config]):
    name = "ipt"
    params = {
        "P": Param("tokens d", unless="intrinsic"),
        "z": Param("intrinsic", init="normal:0.02", when="intrinsic"),
        "D1": Param("hidden intrinsic", when="intrinsic", trains=False),
        "d1": Param("hidden", when="intrinsic", trains=False),
        "D2": Param("tokens d hidden", when="intrinsic", trains=False),
        "d2": Param("tokens d", when="intrinsic", trains=False),
    }
    least = {"intrinsic": 0}
    plain = {"intrinsic": 0}
    small = {"tokens": 3, "intrinsic": 4, "hidden": 8}

    def init_rule(self, param: str, target: Target) -> str:
        """Of the decoder as torch begins it."""
        if param in {"P", "z"}:
            return self.params[param].init
        return f"kaiming:{target.config['intrinsic' if param in {'D1', 'd1'} else 'hidden']}"

    def prompt(self, p: Live, cfg: Config) -> Tensor:
        return p.derived("P", p.sources(1.0), lambda: decoded(p, p["z"])) if cfg.intrinsic else p["P"]

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(longer=cfg.tokens)

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A fresh one whose decoder gives the children's prompts. Raises `Unsupported` for what is none of a length."""
        import torch

        rows = [self._rows(children.part(name), name) for name in children.parts]
        short = min(len(P) for P in rows)
        if model is None or any(P.shape != rows[0].shape for P in rows):
            raise Unsupported("`ipt` is fitted to prompts of one length, for a model", got=f"{short} tokens and more")
        made = self.create(model, None, {**config, "tokens": short}, None, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fitted = fit(made.tensors, torch.stack(rows), made.config["steps"])
        return made.replace(tensors={**made.tensors, **fitted})

    def _rows(self, part: Adapter, name: str) -> Tensor:
        method = plugins.method(part.method)
        if not isinstance(method, SoftPrompt):
            raise Unsupported(f"`ipt` is fitted to prompts, and `{name}` is `{part.method}`", hint="leave it out")
        found: Tensor = method.front(part.at(""), method.config(part.config))["P"]
        return found.float()


def decoded(p: Mapping[str, Tensor] | Live, z: Tensor) -> Tensor:
    """P (..., tokens, d) of z (..., intrinsic)."""
    import torch

    return torch.einsum("tdh,...h->...td", p["D2"], torch.tanh(z @ p["D1"].mT + p["d1"])) + p["d2"]


def fit(begun: Mapping[str, Tensor], prompts: Tensor, steps: int) -> dict[str, Tensor]:
    """The decoder, by its keys, that gives prompts (n, tokens, d) back of what a linear encoder makes of them."""
    import torch

    names = ("D1", "d1", "D2", "d2")
    decoder = {name: begun[f":{name}"].clone().requires_grad_() for name in names}
    encoder = torch.nn.Linear(prompts[0].numel(), len(begun[":z"]))
    optimiser = torch.optim.Adam([*decoder.values(), *encoder.parameters()], lr=1e-3)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (decoded(decoder, encoder(prompts.flatten(1))) - prompts).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return {f":{name}": tensor.detach() for name, tensor in decoder.items()}
