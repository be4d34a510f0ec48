"""A task's stream beside the base's: each block runs for the base, and where it is chosen once more for the task, whose
layers find what they gave the first time and add what differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Sparse, Target
from adaptr.adapter import kinds
from adaptr.algebra.sparse import require_places
from adaptr.contract import Costs
from adaptr.errors import Unsupported
from adaptr.families.side import again, read
from adaptr_plugins.side._fused import fused

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract import Live

Args = tuple[object, ...]
Named = dict[str, object]
#: The layers of a block that are told apart by what they are for; each word must match something.
LAYERS = (
    "attn.q|attn.qkv", "attn.k|attn.qkv", "attn.v|attn.qkv", "attn.o", "mlp.gate|mlp.up", "mlp.up", "mlp.down",
)  # fmt: skip
#: What places tell each other: the products of the first time, and whether it is the second; whose stream; its cache.
KEPT, OWNER, CACHE, STREAM = "lets.kept", "lets.owner", "lets.cache", "lets.stream"
#: An expert of several, which gets other tokens the second time.
_ROUTED = re.compile(r".*experts?\.\d+\..*")


@dataclass(frozen=True)
class Config:
    """`tau`: of the search. `depth`: blocks of the base, 0 where the task has a stream in none. `block`: whether it is
    one, and of these whether it is the `last`, and whether what the base put out is `reused`.
    """

    tau: float = 1.0
    depth: int = 1
    block: bool = False
    last: bool = False
    reused: bool = False
    finished: bool = False


def depth(model: nn.Module) -> int:
    """How many blocks a model has."""
    from adaptr import targets

    return len(targets.resolve(model, "block_out", {kinds.PLACE}))


def require_depth(model: nn.Module, said: Sequence[Config]) -> None:
    """Raises `Unsupported` where a file counts other blocks: the task's keys would lie among the model's."""
    used = any(cfg.block and not cfg.reused for cfg in said)
    wrong = next((cfg.depth for cfg in said if cfg.depth != (depth(model) if used else 0)), None)
    if wrong is not None and (used or wrong != depth(model)):
        raise Unsupported(
            f"`lets` counts {wrong} blocks in the base, which has {depth(model)}", hint="give the base it was made for"
        )


def require_inside(targets: Sequence[Target], blocks: Sequence[Target]) -> None:
    """Raises `Unsupported` for layers that don't run once more with the same tokens."""
    for path in (one.path for one in targets if one not in blocks):
        if _ROUTED.fullmatch(path) or not any(path.startswith(f"{block.path}.") for block in blocks):
            raise Unsupported(
                f"`lets` at `{path}`, which is in none of its blocks, or is an expert that gets other tokens each time",
                hint="leave it out, or add its block to the targets",
            )


def both(rest: Callable[..., object], p: Live, cfg: Config, weight: float, args: Args, kwargs: Named) -> object:
    """What a block puts out for the base; for the task it is told to the next, and behind the last all are one.

    Raises `Unsupported` for a second stream beside one model.
    """
    from adaptr.host.outputs import first_of, with_first
    from adaptr.sites.base import given

    taps = p.context.taps
    kept: dict[str, list[Tensor]] = {}
    if taps.setdefault(OWNER, p.whose) != p.whose:
        raise Unsupported("two task streams beside one model", hint="attach one at a time")
    cache = _cache(p, cfg)  # before the model's own has anything of this call
    taps[KEPT] = kept, False
    output = rest(*args, **kwargs)
    z = h = read(first_of(output), p)
    x = read(given(args, kwargs), p)
    taps.setdefault((STREAM, ""), x)  # of the first: what the embeddings are
    if not cfg.reused:
        taps[KEPT] = kept, True
        z = again(rest, taps.get((STREAM, _before(p.place)), x), cache, *args, **kwargs)
    if not cfg.finished:
        g = _chosen(p, cfg).to(h.dtype)
        z = g * z + (1 - g) * h
    p.context.put((STREAM, p.place), z)
    if not cfg.last:
        return output
    streams = [t.to(p["q"].dtype) for key, t in taps.items() if isinstance(key, tuple) and key[0] == STREAM]
    u = fused(streams, p["q"]).to(h.dtype)
    return with_first(output, u if weight == 1.0 else h + weight * (u - h))


def layer(rest: Callable[..., object], p: Live, args: Args, kwargs: Named) -> object:
    """W x as it is, and the second time that its block runs W x + D x~."""
    from torch.nn.functional import linear

    from adaptr.sites.base import given

    kept, second = p.context.taps.get(KEPT) or (None, False)
    if kept is None:
        raise Unsupported(f"`{p.place}` runs apart from its block, as in an arrangement", hint="attach it by itself")
    if not second:
        kept.setdefault(p.place, []).append(first := rest(*args, **kwargs))
        return first
    x = given(args, kwargs)
    y: Tensor = kept[p.place].pop(0).detach()
    require_places(p["i"], y.shape[-1] * x.shape[-1], "lets")
    D = Sparse(p["i"], p["v"], (y.shape[-1], x.shape[-1])).dense()
    return y + linear(x.to(D.dtype), D).to(y.dtype)


def costs(target: Target, cfg: Config) -> Costs:
    """The task's stream keeps what blocks keep that learn themselves."""
    if cfg.block:
        return Costs(token=5 * target.shape[0], flops=2 * target.shape[0], apart=True)
    rows, cols = target.shape
    return Costs(input=True, once=rows * cols, flops=2 * rows * cols)


def _before(path: str) -> str:
    """The block before one."""
    stack, _, number = path.rpartition(".")
    return f"{stack}.{int(number) - 1}"


def _cache(p: Live, cfg: Config) -> object:
    """That of the task's stream, behind the model's own; None where the model was called without."""
    taps = p.context.taps
    if CACHE not in taps:
        taps[CACHE] = p.context.further(cfg.depth, alike=True) if cfg.depth else None
    return taps[CACHE]


def _chosen(p: Live, cfg: Config) -> Tensor:
    """1 where a block is computed for the task, 0 where what the base put out is used again."""
    c = p["c"]
    if p.training:
        u = (p.draw(2**20) + 0.5) / 2**20
        c = c + (u / (1 - u)).log()
    soft = (c / cfg.tau).sigmoid()
    return (soft >= 0.5).to(soft.dtype) + (soft - soft.detach())
