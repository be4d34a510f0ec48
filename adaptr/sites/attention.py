"""Attention's own function of q, k, v and mask, through transformers' registry: one wrapper an implementation.

Each is registered (`adaptr_sdpa`, `adaptr_eager`) together with the mask function of the same name; without the latter,
padding and causality would be lost without a word. The wrapper finds its states on the attention module it is called
for. What they add is not stored in the KV cache and shifts no position.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from adaptr import targets
from adaptr.contract import View
from adaptr.errors import Unsupported
from adaptr.host import swap
from adaptr.host.blocks import unweighed
from adaptr.host.composed import arranged
from adaptr.host.positions import Positions, backbone
from adaptr.host.projections import keys_values
from adaptr.host.state import State
from adaptr.sites.base import Site, Undo
from adaptr.targets.modules import asks_registry

if TYPE_CHECKING:
    from adaptr.adapter import Target
    from adaptr.contract import Mount
    from adaptr.families.base import Method
    from adaptr.host.arrangement import Arrangement

PREFIX = "adaptr_"
SUPPORTED = ("sdpa", "eager")


class Attended(NamedTuple):
    """What an attention gets: q (batch, heads, T, width), k and v (batch, kv heads, length, width), mask or None.

    `module`: the attention module; `options`: its further arguments; `additive`: whether the mask is added to scores;
    `turn`: by which matrix (width, width) keys that are put in front are turned, None for none.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    module: nn.Module
    options: dict[str, Any]
    additive: bool
    turn: Tensor | None = None

    def projected(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (kv heads, n, width) of rows (n, d), by the module's own projections, at no position."""
        return keys_values(self.module, rows.to(self.k.dtype), self.k.shape[1], self.k.shape[3])

    def over(self, K: Tensor, V: Tensor) -> Tensor:
        """Attention (batch, T, heads, width) of q over keys and values (kv heads, n, width) alone, all of them seen."""
        K, V = (t.to(self.q).repeat_interleave(self.q.shape[1] // len(t), 0) for t in (K, V))
        weights = (self.q @ K.mT * self.scaling).softmax(-1, dtype=torch.float32)
        return (weights.to(V.dtype) @ V).transpose(1, 2)

    @property
    def scaling(self) -> float:
        """What scores are multiplied by."""
        found = self.options.get("scaling")
        return self.q.shape[-1] ** -0.5 if found is None else float(found)

    def extended(self, K: Tensor, V: Tensor) -> Attended:
        """With keys and values (kv heads, n, width) in front, or (batch, kv heads, n, width) of each row, which all
        tokens see. They are filled up with zeros where heads are wider, as what is above may have made them.
        """
        if self.options.get("cache") is not None:
            raise Unsupported("prefixes don't work with a paged attention cache", hint="use a dynamic or static cache")
        q, k, v, mask, module, options, *_ = self
        K, columns = K if self.turn is None else K @ self.turn.to(K), K.shape[-2]
        K, V = (pad(t, (0, q.shape[-1] - t.shape[-1])) for t in (K, V))
        T, causal = q.shape[2], options.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        if mask is None and T > 1 and causal:
            # without a mask, attention is causal from the first key on: a static cache's unused tail must go, and the
            # triangle must be written down before columns are put in front of it
            k, v, mask = k[:, :, :T], v[:, :, :T], _triangle(q, self.additive)
        if mask is not None:
            mask = pad(mask, (columns, 0), value=mask.dtype == torch.bool)
        bias = options.get("position_bias")
        if bias is not None:
            options = {**options, "position_bias": pad(bias[..., : k.shape[2]], (columns, 0))}
        k = torch.cat([K.to(k).expand(k.shape[0], -1, -1, -1), k], dim=2)
        v = torch.cat([V.to(v).expand(v.shape[0], -1, -1, -1), v], dim=2)
        return self._replace(k=k, v=v, mask=mask, options=options)


#: From what an attention gets to its output (batch, T, heads, width) and its weights, None where it has none.
Attend = Callable[[Attended], tuple[Tensor, Tensor | None]]


class Attention(Site):
    name = "attention"
    apart = True
    swaps = False
    shows = False

    def find(self, model: nn.Module, role: str) -> list[str]:
        return [target.path for target in targets.resolve(model, role, {"attention"})]

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        cls = type(targets.submodule(model, mount.path))
        own: Any = getattr(cls, "_adaptr_base", cls)
        if not asks_registry(own):
            raise Unsupported(
                f"`{method.name}` changes attention by transformers' registry of attention functions, and "
                f"`{mount.path}`, a `{cls.__name__.removeprefix('Adapted')}`, computes its own without asking there",
                hint="choose a method that works on weights or on outputs",
            )

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        module = targets.submodule(model, state.mount.path)
        _activate(model)
        swap.mount(module, key, state, None)

        def off() -> None:
            swap.unmount(module, key)
            _deactivate(model)

        return off

    def around(self, below: Attend, state: State, module: nn.Module) -> Attend:  # type: ignore[override]
        return lambda a: state.method.attention(below, a, state, state.cfg, state.strength)

    def awake(self) -> None:
        register()  # the unpickled model's configuration names the wrapper


def _activate(model: Any) -> None:
    """Select the wrapper of the implementation in use; counted, so that the last state restores it."""
    counted = model.__dict__.get("_adaptr_attention")
    if counted is None:
        name = model.config._attn_implementation
        if name not in SUPPORTED:
            raise Unsupported(
                "the model's attention",
                got=f"`{name}`",
                want=f"{' or '.join(SUPPORTED)}",
                hint=f'load it with `attn_implementation="{SUPPORTED[0]}"`',
            )
        register()
        model.set_attn_implementation(PREFIX + name)
        counted = model.__dict__["_adaptr_attention"] = [name, 0, _count(model)]
    counted[1] += 1


def _count(model: nn.Module) -> Any:
    found = backbone(model)
    # before a gate's own pass, which shall see them too
    return found and found.register_forward_pre_hook(Positions(found), with_kwargs=True, prepend=True)


def _deactivate(model: Any) -> None:
    counted = model.__dict__["_adaptr_attention"]
    counted[1] -= 1
    if counted[1] == 0:
        model.set_attn_implementation(counted[0])
        if counted[2] is not None:
            counted[2].remove()
        del model.__dict__["_adaptr_attention"]


def register() -> None:
    """Make the wrappers known to transformers; once is enough."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if PREFIX + "sdpa" in ALL_ATTENTION_FUNCTIONS.valid_keys():
        return
    for name, wrapper in (("sdpa", _sdpa), ("eager", _eager)):
        AttentionMaskInterface.register(PREFIX + name, ALL_MASK_ATTENTION_FUNCTIONS[name])
        AttentionInterface.register(PREFIX + name, wrapper)


def _sdpa(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **kwargs: object) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return _run(sdpa_attention_forward, Attended(q, k, v, mask, module, kwargs, False))


def _eager(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **kwargs: object) -> Any:
    # the model's own eager function: some cap or bias the scores in it
    own = sys.modules[type(module).__module__].eager_attention_forward
    return _run(own, Attended(q, k, v, mask, module, kwargs, True))


def _run(base: object, a: Attended) -> Any:
    """All states of the module around the base's own attention, in their order."""
    attend: Any = functools.partial(_own, base)
    states = cast("list[State]", list(cast(Any, a.module._modules.get("adapters", {})).values()))
    for arrangement, run in arranged(s for s in states if isinstance(s.site, Attention) and s.strength):
        if arrangement is None:
            for state in run:
                attend = state.site.around(attend, state, a.module)
        else:
            attend = _apart(arrangement, attend, run, a.module)
    return cast("tuple[Tensor, Tensor | None]", attend(a))


def _apart(arrangement: Arrangement, attend: Attend, run: list[State], module: nn.Module) -> Attend:
    """As blocks have it: what is attended to is no longer the same for all, so that there are no weights to tell of."""
    view = arrangement.over(View(attend, unweighed), run, module)
    return lambda a: (view(a)[0], None)


def _own(base: Any, a: Attended) -> Any:
    return base(a.module, a.q, a.k, a.v, a.mask, **a.options)


def _triangle(q: Tensor, additive: bool) -> Tensor:
    """The mask (1, 1, T, T) of causal attention."""
    T = q.shape[2]
    seen = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()[None, None]
    if not additive:
        return seen
    return torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill(~seen, torch.finfo(q.dtype).min)


SITE: Attention = Attention()
