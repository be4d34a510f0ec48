"""Ladder side-tuning: s_l = B_l(m s + (1 - m) (D h_l + b)), m = sigmoid(mu / T), beside the blocks.  Sung, Cho and
Bansal 2022, arXiv:2206.06522.

h_l is what block l of the base puts out, apart from its graph: nothing of the base is kept for a backward, and there is
none through it. s starts as E h_0 + b_e of what the first block is given. U norm(s) + b_u stands in the place of the
last block's output, before the base's own norm and head; the paper has its head alone there. B_l are blocks of T5's
form on T5, as the paper's are, and of Llama's on all other models, each width divided by `reduction`. Beside an encoder
and its decoder are two ladders; the decoder's reads what the encoder's says, which the base's decoder does not. They
start as a part of the base's blocks where these have that form, in others at random: as the units of most weight
(`init="pruned"`), or of most Fisher information (`"fisher"`), which is of the batches that training looks at before it
begins, and in the paper's of 1,024 examples one by one. Blocks that are left out of the targets are dropped. A fresh
one is not the identity: the model then says what the side network says.

Choose it where memory for training is what lacks, on a large or packed base: the paper's abstract has it save 69 % of
what full fine-tuning needs, where other methods save 26 % (not confirmed). It learns more slowly than what changes the
base, it can't be merged, every token pays for the side network, and a cache holds its keys and values too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target
from adaptr.contract import Costs, Live, Mount
from adaptr.errors import BadConfig
from adaptr.families.side import Side, read
from adaptr_plugins.side import _pruned
from adaptr_plugins.side._block import ENCODED, PARAMS, block, norm
from adaptr_plugins.side._sizes import costs, numbered, require_depth, sizes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    """`number`: of a block in its stack; `encodes`: whether that is an encoder, `cross`: whether it reads one;
    `ends`: whether it is the last there.
    """

    reduction: int = 8
    T: float = 0.1
    init: Literal["pruned", "fisher", "random"] = "pruned"
    heads: int = 1
    groups: int = 1
    head: int = 2
    inner: int = 1
    theta: float = 0.0
    causal: bool = True
    depth: int = 1
    number: int = 0
    gated: bool = True
    act: Literal["silu", "relu", "gelu"] = "silu"
    buckets: int = 0
    encodes: bool = False
    cross: bool = False
    ends: bool = False


class Ladder(Side[Config]):
    name = "ladder"
    params = {
        "D": Param("s d", init="kaiming"),
        "b": Param("s"),
        "mu": Param("1"),
        **PARAMS,
        "E": Param("s d", init="kaiming", shared=True),
        "b_e": Param("s", shared=True),
        "n": Param("s", init="ones", shared=True),
        "U": Param("d s", init="kaiming", shared=True),
        "b_u": Param("d", shared=True),
    }
    least = {"number": 0, "buckets": 0, "reduction": 1, "groups": 1, "head": 1, "inner": 1}
    small = {"reduction": 4}
    rate = 3e-3
    two = True

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if target.shape[0] % cfg.reduction:
            raise BadConfig("`ladder`: `reduction`", got=cfg.reduction, want=f"a divisor of {target.shape[0]}")
        s = target.shape[0] // cfg.reduction
        return {"s": s, "a": cfg.heads * cfg.head, "c": cfg.groups * cfg.head, "f": cfg.inner}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        init = _pruned.init(model, places, values.get("init"))
        return {**sizes(model, values.get("reduction", Config.reduction)), **values, "init": init}

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        return numbered(self.stacks(super().together(model, targets)))

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        known = adapter.config["init"] != "random" and not next(iter(adapter.tensors.values())).is_meta
        found = _pruned.started(model, adapter.targets) if known else {}
        return adapter.replace(tensors={**adapter.tensors, **found})

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        if session.adapter.config["init"] == "fisher":
            _pruned.restarted(session, data)

    def costs(self, target: Target, cfg: Config) -> Costs:
        return costs(target.shape[0], cfg)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        first = {path for path, target in adapter.targets.items() if not target.config["number"]}
        require_depth(model, adapter)
        *taps, end = super().mounts(model, adapter)
        return [*(replace(one, reads=(one.path,)) if one.path in first else one for one in taps), end]

    def tap(self, h: Tensor, p: Live, cfg: Config) -> None:
        s = self._climbed(read(h, p), None if cfg.number else read(p.taken(), p), p, cfg)
        p.context.put((p.whose, cfg.number), s)
        if cfg.encodes and cfg.ends:
            p.context.tell((p.whose, ENCODED), norm(s, p["n_3"]))

    def last(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import linear

        return linear(norm(self._climbed(h, None if cfg.number else x, p, cfg), p["n"]), p["U"], p["b_u"])

    def _climbed(self, h: Tensor, x: Tensor | None, p: Live, cfg: Config) -> Tensor:
        """The side states behind one more rung. `x`: where it is the first, what the first block is given."""
        from torch.nn.functional import linear

        dtype = p["D"].dtype
        if x is None:
            s, cache = (p.context.tapped((p.whose, name)) for name in (cfg.number - 1, "cache"))
        else:
            s = linear(x.to(dtype), *(p[name] for name in (("E_1", "b_1") if cfg.encodes else ("E", "b_e"))))
            cache = p.context.put((p.whose, "cache"), p.context.further(cfg.depth))
        m = (p["mu"] / cfg.T).sigmoid()
        return block(m * s + (1 - m) * linear(h.to(dtype), p["D"], p["b"]), p, cfg, cache)
