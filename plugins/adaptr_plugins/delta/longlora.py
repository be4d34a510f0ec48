"""LongLoRA: LoRA, W' = W + s B A, whose training has shifted sparse attention, S².  Chen et al. 2023, arXiv:2309.12307.

In training a text of N tokens is cut into `groups`, of G = N / `groups` tokens, and each token sees those before it in
its group alone: in one half of the heads the groups begin at 0, G, 2G ..., in the other at 0, G/2, 3G/2 ..., so that
they overlap. No group goes over the end to the beginning, as it does in the authors' code for plain attention, where
first tokens see last ones. Where N is no multiple the last group is shorter. What a mask hides stays hidden. Afterwards
attention is whole, and the adapter a LoRA. `adaptr train` trains embeddings and norms beside it unless `also` says
something else; in Python say `also=["embed", "norm"]`. How positions are stretched is the base's configuration
(`rope_scaling`): give it where the adapter is used, too.

Choose it to train a decoder for longer texts than it knows, where attention is what takes the time: it costs a quarter
of it in training, and nothing later. Embeddings and norms are part of why it works, and make the file large. For texts
of lengths that the base knows, LoRA learns from all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adaptr import Target, targets
from adaptr.adapter import kinds
from adaptr.contract import Live, Mount
from adaptr.errors import BadConfig, Unsupported
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.sites.attention import Attend, Attended


@dataclass(frozen=True)
class Config(_factors.Config):
    groups: int = 4


class LongLoRA(_factors.Plain[Config]):
    name = "longlora"
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q|attn.qkv", "attn.k|attn.qkv", "attn.v|attn.qkv", "attn.o")
    recipe: ClassVar = {"also": ("embed", "norm")}
    small = {"r": 2, "alpha": 2.0}
    kept_within = 0.06  # the attention's output, of groups and of all of them together

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.groups < 2:
            raise BadConfig(f"`{self.name}`: `groups`", got=cfg.groups, want="at least 2")
        return {}

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """The layers, and in training every causal attention: with the tensors of a layer in it, to be where it is."""
        causal = [place for place in _attentions(model) if getattr(model.get_submodule(place), "is_causal", False)]
        if not causal or getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            raise Unsupported(
                f"`{self.name}` is for decoders, whose tokens see those before them, and this model is something else",
                hint="choose `lora`",
            )
        first = next(iter(adapter.targets))
        inside = {place: next((t for t in adapter.targets if t.startswith(f"{place}.")), first) for place in causal}
        shifted = [Mount(place, "attention", shared=(owner,), training=True) for place, owner in inside.items()]
        return [*super().mounts(model, adapter), *shifted]

    def attention(self, rest: Attend, a: Attended, p: Live, cfg: Config, weight: float) -> tuple[Tensor, Tensor | None]:
        import torch

        if not p.training:
            return rest(a)
        heads, T = a.q.shape[1:3]
        if a.k.shape[2] != T or heads % 2:
            got = f"{heads} heads" if heads % 2 else f"{a.k.shape[2]} keys of {T} tokens"
            raise Unsupported(
                f"`{self.name}` at `{p.place}`: shifted sparse attention",
                verb="gets",
                got=got,
                want="an even number of heads and the tokens' own keys",
                hint="train with `use_cache=False` and without virtual tokens; call `eval()` of the model to generate",
            )
        G = -(-T // cfg.groups)
        near, far = (_windows(rest, half, G, shift) for half, shift in zip(_halves(a), (0, G // 2), strict=True))
        return torch.cat([near[:, :, : heads // 2], far[:, :, -(heads // 2) :]], dim=2), None


def _attentions(model: nn.Module) -> Iterator[str]:
    return (target.path for target in targets.resolve(model, "attention", {kinds.ATTENTION}))


def _halves(a: Attended) -> tuple[Attended, Attended]:
    """The first heads and the last; all of them twice where keys, a mask or sinks can't be halved with them."""
    if a.k.shape[1] % 2 or (a.mask is not None and a.mask.shape[1] > 1) or a.options.get("s_aux") is not None:
        return a, a
    (q, r), (k, m), (v, w) = (t.chunk(2, 1) for t in (a.q, a.k, a.v))
    return a._replace(q=q, k=k, v=v), a._replace(q=r, k=m, v=w)


def _windows(rest: Attend, a: Attended, G: int, shift: int) -> Tensor:
    """Attention (batch, T, heads, width) inside [0, shift), then inside groups of G, then inside what remains."""
    import torch

    T = a.q.shape[2]
    n = (T - shift) // G
    end = shift + n * G
    spans = ((0, 1, shift), (shift, n, G), (end, 1, T - end))
    return torch.cat([_grouped(rest, a, *span) for span in spans if span[1] * span[2]], dim=1)


def _grouped(rest: Attend, a: Attended, start: int, n: int, G: int) -> Tensor:
    """That of n groups of G tokens from `start` on, each as a text of its own."""
    batch, end, mask = len(a.q), start + n * G, a.mask
    q, k, v = (  # copied: for the sake of a view of few tokens the backward would keep all of q, k and v
        t[:, :, start:end].reshape(batch, -1, n, G, t.shape[3]).transpose(1, 2).flatten(0, 1).contiguous()
        for t in a[:3]
    )
    if mask is not None:
        inside = mask[:, :, start:end, start:end].expand(batch, -1, -1, -1).reshape(batch, -1, n, G, n, G)
        mask = inside.diagonal(dim1=2, dim2=4).movedim(-1, 1).flatten(0, 1)
    y: Tensor = rest(a._replace(q=q, k=k, v=v, mask=mask))[0]
    return y.reshape(batch, n * G, *y.shape[2:])
