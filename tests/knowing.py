"""Small methods whose formulas ask what a forward knows, for the tests of the context."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from adaptr import Insert, Param, plugins
from adaptr.families.fusion import Fusion


class Ends(Insert):
    """A direction is added at the prompt's first and last real tokens."""

    name = "ends"
    params = {"v": Param("d", init="normal:0.5")}
    targets = ("ffn_out",)
    context = True

    @dataclass(frozen=True)
    class Config:
        first: int = 1
        last: int = 1

    def forward(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        context = p.context
        real = context.real()
        at = real.long().cumsum(1) - 1
        left = real.sum(1, keepdim=True) - 1 - at
        on = real & ((at < cfg.first) | (left < cfg.last)) & (context.offset == 0)
        return torch.where(on[..., None], h + p["v"], h)


class Routed(Insert):
    """One of n directions is added: the forward's in training, their mean otherwise."""

    name = "routed"
    params = {"V": Param("n d", init="normal:0.5")}
    targets = ("ffn_out",)
    context = True

    @dataclass(frozen=True)
    class Config:
        n: int = 5

    def forward(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        if not p.training:
            return h + p["V"].mean(0)
        return h + h * p["V"].index_select(0, p.draw(cfg.n)[None])[0]


class Word(Insert):
    """A direction is added behind the first token 7, wherever an earlier call over the same cache has seen it."""

    name = "word"
    params = {"v": Param("d", init="normal:0.5")}
    targets = ("ffn_out",)
    context = True

    def forward(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        return torch.where(p.context.once("word", lambda: seen(p.context))[..., None], h + p["v"], h)


def seen(context: Any) -> Any:
    on = (context.ids == 7).long().cumsum(1) > 0
    before = context.carried.get("word")
    on = on if before is None else on | before
    context.leave("word", on[:, -1:])
    return on


class Rung(Insert):
    """Each block adds what the block before it has put out."""

    name = "rung"
    params = {"v": Param("d", init="normal:0.5")}
    targets = ("ffn_out",)
    context = True

    def forward(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        number = int(re.findall(r"\d+", p.place)[0])
        own = p.context.put(("rung", number), h.detach() * p["v"])
        return h + own + p.context.tapped(("rung", number - 1)) if number else h + own


class Forgetful(Ends):
    """Asks without saying so."""

    name = "forgetful"
    context = False


class Prompted(Insert):
    """A direction is added at all of the prompt."""

    name = "prompted"
    params = {"v": Param("d", init="normal:0.5")}
    targets = ("ffn_out",)
    context = True

    def forward(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        return torch.where(p.context.prompted()[..., None], h + p["v"], h)


class Some(Ends):
    """Asks where its configuration has tokens to look for, and says so of each place."""

    name = "some"
    context = False

    def mounts(self, model: Any, adapter: Any) -> Any:
        asks = {path: bool(t.config["first"] + t.config["last"]) for path, t in adapter.targets.items()}
        return [dataclasses.replace(mount, context=asks[mount.path]) for mount in super().mounts(model, adapter)]

    def forward(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        return super().forward(h, x, p, cfg) if cfg.first + cfg.last else h + p["v"]


class Branched(Insert):
    """As `Ends`, for others to combine."""

    name = "branched"
    params = {"v": Param("d", init="normal:0.5")}
    targets = ("ffn_out",)
    context = True

    def branch(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        real = p.context.real()
        return torch.where((real & (real.long().cumsum(1) == 1))[..., None], p["v"], torch.zeros_like(h))


class Summed(Fusion):
    """All that the parts add."""

    name = "summed"
    targets = ("ffn_out",)
    params = {"s": Param("1", init="ones")}

    @dataclass(frozen=True)
    class Config:
        experts: list[str] = field(default_factory=list)

    def combine(self, h: Any, x: Any, branches: Any, p: Any, cfg: Any) -> Any:
        return h + p["s"] * sum(branches.values())


METHODS = (Prompted, Some, Branched, Summed, Ends, Routed, Word, Rung, Forgetful)


class _Point:
    """What an installed distribution gives."""

    def __init__(self, found: Any) -> None:
        self.value, self.found = f"knowing:{found.__name__}", found

    def load(self) -> Any:
        return self.found


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The methods of this file as an installed distribution would bring them."""
    found = {cls.name: _Point(cls) for cls in METHODS}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.methods" else {})
    yield
    plugins.method.cache_clear()
    plugins.manager.cache_clear()
