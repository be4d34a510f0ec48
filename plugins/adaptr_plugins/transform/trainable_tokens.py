"""Trainable tokens: E'[t] = v_t for some rows t of an embedding, and of the head tied to it.  PEFT 0.15 2025, no paper.

A row is replaced and not added to: what stood there before, which may be random where tokens were added to the
vocabulary, does not count. At a strength w it is (1 - w) E[t] + w v_t. `tokens` are ids of the vocabulary; at a layer
that is no look-up table, such as an untied head, they are its outputs.

Choose it where tokens were added to the vocabulary, or a few are to get a new meaning, most often beside LoRA. Nothing
but these rows learns: alone it can't change how other words are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live, Mount
from adaptr.contract.mounts import of
from adaptr.contract.view import ALL
from adaptr.errors import BadConfig, Unsupported
from adaptr.families.transform import lerp
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    tokens: list[int] = field(default_factory=list)
    side: Literal["out", "in"] = "out"


class TrainableTokens(Transform[Config]):
    name = "trainable-tokens"
    params = {"v": Param("n {side}", init="custom")}
    kinds = frozenset({"linear", "linear_t", "embedding"})
    targets = ("embed",)
    rowwise = True
    colwise = True
    follows = True
    small = {"tokens": [9, 3, *range(20, 40)]}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "side": "out" if target.looked_up else "in"}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        count = target.shape[1] if target.looked_up else target.shape[0]
        if target.looked_up and target.shape[0] == count:
            raise Unsupported(
                f"`{self.name}`: the rows of the square table `{target.path}` can't be told from its columns",
                hint="train the table whole (`also`)",
            )
        strange = [t for t in cfg.tokens if t < 0 or 0 < count <= t]
        if not cfg.tokens or strange or len(set(cfg.tokens)) < len(cfg.tokens):
            most = f"below {count}" if count else "of the vocabulary"
            raise BadConfig(f"`{self.name}`: `tokens`", got=strange or cfg.tokens, want=f"different ids {most}, some")
        return {"n": len(cfg.tokens)}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows = base.weight.t() if target.looked_up else base.weight
        return {"v": rows[self.config(target.config).tokens].float().contiguous()}

    def accepts(self, model: nn.Module, target: Target) -> bool:
        return _uses(model, target.path)[0] == target.path

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """Each target, and the layers whose weight is that of a target."""
        tied = {other: path for path in adapter.targets for other in _uses(model, path) if other not in adapter.targets}
        own = [of(target) for target in adapter.targets.values()]
        return [*own, *(Mount(other, "weight", shared=(path,)) for other, path in tied.items())]

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        import torch

        assert base.op is not None
        y: Tensor = base(x)
        if x.is_floating_point():
            b, at = base.bias, torch.tensor(cfg.tokens, device=x.device)
            z = base.op(x, p["v"].to(x.dtype), None if b is None else b[at])
            return y.index_copy(-1, at, z.to(y.dtype))
        order = sorted(range(len(cfg.tokens)), key=cfg.tokens.__getitem__)
        ids = torch.tensor([cfg.tokens[n] for n in order], device=x.device)
        near = torch.searchsorted(ids, x).clamp(max=len(ids) - 1)
        z = base.op(torch.tensor(order, device=x.device)[near], p["v"].t(), None)
        return torch.where((ids[near] == x).unsqueeze(-1), z.to(y.dtype), y)

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        def rows(s: slice) -> Tensor:
            W = base.rows(s)
            return (
                _put(W, p["v"], cfg, s, ALL, weight)
                if _listed(W, 1, p)
                else _put(W.t(), p["v"], cfg, ALL, s, weight).t()
            )

        def cols(s: slice) -> Tensor:
            W = base.cols(s)
            return (
                _put(W.t(), p["v"], cfg, s, ALL, weight).t()
                if _listed(W, 0, p)
                else _put(W, p["v"], cfg, ALL, s, weight)
            )

        return super().view(base, p, cfg, weight).then(rows=rows, cols=cols)


def _uses(model: nn.Module, path: str) -> list[str]:
    """The modules whose weight is that of the one at `path`, in the model's order."""
    weight = model.get_submodule(path)._parameters.get("weight")
    return [name for name, module in model.named_modules() if module._parameters.get("weight") is weight]


def _listed(W: Tensor, axis: int, p: Live) -> bool:
    """Whether `axis`, which a block of the weight has all of, is that of the values, so that the other counts tokens.

    A tied head has the same weight as its table, turned.
    """
    return W.shape[axis] == p["v"].shape[1]


def _put(W: Tensor, v: Tensor, cfg: Config, counted: slice, width: slice, weight: float) -> Tensor:
    """A block of W (tokens, width) with its rows replaced: rows `counted`, columns `width`."""
    import torch

    first = counted.start or 0
    mine = [n for n, t in enumerate(cfg.tokens) if first <= t < first + len(W)]
    at = torch.tensor([cfg.tokens[n] - first for n in mine], dtype=torch.int64, device=W.device)
    old, new = W.index_select(0, at), v[mine][:, width].to(W.device)
    return W.index_copy(0, at, lerp(wide(old), wide(new), weight).to(W.dtype))
