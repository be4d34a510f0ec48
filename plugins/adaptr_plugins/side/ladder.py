"""Ladder side-tuning: s_l = B_l(m s + (1 - m) (D h_l + b)), m = sigmoid(mu / T), beside the blocks.  Sung, Cho and
Bansal 2022, arXiv:2206.06522.

h_l is what block l of the base puts out, apart from its graph: nothing of the base is kept for a backward, and there is
none through it. s starts as E h_0 + b_e of what the first block is given. U norm(s) + b_u stands in the place of the
last block's output, before the base's own norm and head; the paper has its head alone there. B_l are blocks of Llama's
form, each width divided by `reduction`, on all models (the paper's are T5's). They start as a part of the base's blocks
where these have that form (`init="pruned"`, the units of most weight; the paper also ranks them by Fisher information),
in others at random. Blocks that are left out of the targets are dropped. A fresh one is not the identity: the model
then says what the side network says.

Choose it where memory for training is what lacks, on a large or packed base: the paper's abstract has it save 69 % of
what full fine-tuning needs, where other methods save 26 % (not confirmed). It learns more slowly than what changes the
base, it can't be merged, every token pays for the side network, and a cache holds its keys and values too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target
from adaptr.contract import Costs, Live, Mount
from adaptr.errors import BadConfig, Unsupported
from adaptr.families.side import Side, read
from adaptr_plugins.side import _pruned
from adaptr_plugins.side._block import block

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    reduction: int = 8
    T: float = 0.1
    init: Literal["pruned", "random"] = "pruned"
    heads: int = 1
    groups: int = 1
    head: int = 2
    inner: int = 1
    theta: float = 0.0
    causal: bool = True
    depth: int = 1
    number: int = 0


class Ladder(Side[Config]):
    name = "ladder"
    params = {
        "D": Param("s d", init="kaiming"),
        "b": Param("s"),
        "mu": Param("1"),
        "n_1": Param("s", init="ones"),
        "Q": Param("a s", init="kaiming"),
        "K": Param("c s", init="kaiming"),
        "V": Param("c s", init="kaiming"),
        "O": Param("s a", init="kaiming"),
        "n_2": Param("s", init="ones"),
        "G": Param("f s", init="kaiming"),
        "W": Param("f s", init="kaiming"),
        "Z": Param("s f", init="kaiming"),
        "E": Param("s d", init="kaiming", shared=True),
        "b_e": Param("s", shared=True),
        "n": Param("s", init="ones", shared=True),
        "U": Param("d s", init="kaiming", shared=True),
        "b_u": Param("d", shared=True),
    }
    least = {"number": 0}
    small = {"reduction": 4}
    rate = 3e-3

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if target.shape[0] % cfg.reduction:
            raise BadConfig("`ladder`: `reduction`", got=cfg.reduction, want=f"a divisor of {target.shape[0]}")
        s = target.shape[0] // cfg.reduction
        return {"s": s, "a": cfg.heads * cfg.head, "c": cfg.groups * cfg.head, "f": cfg.inner}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        can = all(_pruned.prunable(model, target) for target in places)
        if values.get("init") == "pruned" and not can:
            raise Unsupported(
                f"`ladder` starts as a part of blocks of Llama's form, and `{places[0].path}` has another",
                hint='say init="random"',
            )
        sizes = _pruned.sizes(model, values.get("reduction", Config.reduction))
        return {"init": "pruned" if can else "random", **sizes, **values}

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        found = super().together(model, targets)
        return [replace(target, config={**target.config, "number": i}) for i, target in enumerate(found)]

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        if adapter.config["init"] == "random" or next(iter(adapter.tensors.values())).is_meta:
            return adapter
        return adapter.replace(tensors={**adapter.tensors, **_pruned.started(model, adapter.targets)})

    def costs(self, target: Target, cfg: Config) -> Costs:
        s = target.shape[0] // cfg.reduction
        a, c = cfg.heads * cfg.head, cfg.groups * cfg.head
        first = target.shape[0] if not cfg.number else 0
        layers = s * target.shape[0] + 2 * s * (a + c) + 3 * s * cfg.inner
        return Costs(token=first + target.shape[0] + 8 * s + 5 * a + c + 4 * cfg.inner, flops=2 * layers, apart=True)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        first, *others = super().mounts(model, adapter)
        return [Mount(first.path, first.site, (first.path,), context=True), *others]

    def tap(self, h: Tensor, p: Live, cfg: Config) -> None:
        x = None if cfg.number else read(p.taken(), p)
        p.context.put((self.name, cfg.number), self._climbed(read(h, p), x, p, cfg))

    def last(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import linear, rms_norm

        s = self._climbed(h, None if cfg.number else x, p, cfg)
        return linear(rms_norm(s, s.shape[-1:], p["n"], 1e-6), p["U"], p["b_u"])

    def _climbed(self, h: Tensor, x: Tensor | None, p: Live, cfg: Config) -> Tensor:
        """The side states behind one more rung. `x`: where it is the first, what the first block is given."""
        from torch.nn.functional import linear

        dtype = p["D"].dtype
        if x is None:
            s, cache = (p.context.tapped((self.name, name)) for name in (cfg.number - 1, "cache"))
        else:
            s = linear(x.to(dtype), p["E"], p["b_e"])
            cache = p.context.put((self.name, "cache"), p.context.further(cfg.depth))
        m = (p["mu"] / cfg.T).sigmoid()
        return block(m * s + (1 - m) * linear(h.to(dtype), p["D"], p["b"]), p, cfg, cache)
