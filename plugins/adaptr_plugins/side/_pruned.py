"""Blocks of a side network that start as a part of the base's: of each width the units that matter most, by the sum of
what its weights matter: their own size (L1), or the Fisher information.

What is kept of the residual stream is the same in all blocks, of both stacks. Of turned heads pairs are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Target
    from adaptr.contract import Run
    from adaptr.host import Session

#: Of each form of blocks: from a name of the network's to how the path of the layer ends that it is a part of.
LLAMA = {
    "Q": "self_attn.q_proj", "K": "self_attn.k_proj", "V": "self_attn.v_proj", "O": "self_attn.o_proj",
    "G": "mlp.gate_proj", "W": "mlp.up_proj", "Z": "mlp.down_proj",
}  # fmt: skip
T5 = {
    "Q": "SelfAttention.q", "K": "SelfAttention.k", "V": "SelfAttention.v", "O": "SelfAttention.o",
    "W": "DenseReluDense.wi", "Z": "DenseReluDense.wo",
}  # fmt: skip
GATED = {**T5, "G": "DenseReluDense.wi_0", "W": "DenseReluDense.wi_1"}
#: What a decoder's blocks of T5's form have beside these, and the first block of a stack.
CROSS = {f"{name}_c": f"EncDecAttention.{name.lower()}" for name in "QKVO"}
TABLE = "SelfAttention.relative_attention_bias"


def layers(model: nn.Module, path: str) -> dict[str, str]:
    """By name: the paths of the layers of a block whose parts the network has; none of a block of another form."""
    below = [one for one, _ in model.get_submodule(path).named_modules()]

    def found(form: Mapping[str, str]) -> dict[str, str]:
        ends = ((n, next((one for one in below if f".{one}".endswith(f".{end}")), None)) for n, end in form.items())
        return {name: f"{path}.{one}" for name, one in ends if one is not None}

    for form in (LLAMA, GATED, T5):
        if len(own := found(form)) == len(form):
            return {**own, **found(CROSS)}
    return {}


def init(model: nn.Module, places: Sequence[Target], asked: str | None) -> str:
    """What is asked for, or what there can be. Raises `Unsupported` where blocks have no such form."""
    can = all(layers(model, target.path) for target in places)
    if not can and asked not in (None, "random"):
        raise Unsupported(
            f"`ladder` starts as a part of blocks of Llama's or T5's form, and `{places[0].path}` has another",
            hint='say init="random"',
        )
    return asked or ("pruned" if can else "random")


def started(
    model: nn.Module, targets: Mapping[str, Target], matters: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Tensors by their keys. `matters`: of each weight by its layer's path, instead of its size."""
    import torch

    def weights(path: str) -> dict[str, Tensor]:
        return {name: base(model, one).float() for name, one in layers(model, path).items()}

    def sizes(path: str) -> dict[str, Tensor]:
        if matters is None:
            return {name: W.abs() for name, W in weights(path).items()}
        return {name: matters[one] for name, one in layers(model, path).items()}

    each = [S[name].sum(1) for S in map(sizes, targets) for name in ("O", "Z", "O_c") if name in S]
    stream = torch.stack(each).sum(0)
    found: dict[str, Tensor] = {}
    for path, target in targets.items():
        kept = _most(stream, target.shape[0] // target.config["reduction"])
        for name, tensor in _part(weights(path), sizes(path), kept, target.config).items():
            found[f"{path}:{name}"] = tensor.detach().cpu().contiguous()
        if target.config["buckets"] and not target.config["number"]:
            table = next(m for one, m in model.named_modules() if one.startswith(f"{path}.") and one.endswith(TABLE))
            found[f"{path}:R"] = table.weight.detach().float().cpu().clone()
    return found


def base(model: nn.Module, path: str) -> Tensor:
    """The weight of a layer, without adapters."""
    from adaptr import host
    from adaptr import targets as places

    found = places.describe(path, model.get_submodule(path))
    assert found is not None, "blocks of these forms have these layers"
    return host.view_of(model, found).weight


def _part(W: dict[str, Tensor], S: Mapping[str, Tensor], kept: Tensor, cfg: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of the weights W those parts that matter most by S."""
    inside = [name for name in "GW" if name in W]
    units = _most(sum(S[name].sum(1) for name in inside) + S["Z"].sum(0), cfg["inner"])
    found = {name: W[name][units][:, kept] for name in inside} | {"Z": W["Z"][kept][:, units]}
    for end in ("", "_c") if "Q_c" in W else ("",):
        keys, values = _heads(S, end, cfg)
        found[f"Q{end}"] = W[f"Q{end}"][_rows(keys, W, end, cfg, cfg["heads"])][:, kept]
        found[f"K{end}"] = W[f"K{end}"][_rows(keys, W, end, cfg, cfg["groups"])][:, kept]
        found[f"V{end}"] = W[f"V{end}"][_rows(values, W, end, cfg, cfg["groups"])][:, kept]
        found[f"O{end}"] = W[f"O{end}"][kept][:, _rows(values, W, end, cfg, cfg["heads"])]
    return found


def _heads(S: Mapping[str, Tensor], end: str, cfg: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Of each group of heads, which dimensions of its queries and keys, and of its values, are kept: (groups, head)."""
    import torch

    def of(name: str, axis: int = 0) -> Tensor:
        found: Tensor = S[name + end].sum(1 - axis).view(cfg["groups"], -1, len(S[f"K{end}"]) // cfg["groups"]).sum(1)
        return found

    both = of("Q") + of("K")
    if cfg["theta"]:
        pairs = torch.stack([_most(one, cfg["head"] // 2) for one in both.view(len(both), 2, -1).sum(1)])
        keys = torch.cat([pairs, pairs + both.shape[1] // 2], 1)
    else:
        keys = torch.stack([_most(one, cfg["head"]) for one in both])
    return keys, torch.stack([_most(one, cfg["head"]) for one in of("V") + of("O", 1)])


def _rows(inside: Tensor, W: Mapping[str, Tensor], end: str, cfg: Mapping[str, Any], heads: int) -> Tensor:
    """Of all `heads`, those of a group having what it keeps."""
    import torch

    start = torch.arange(heads, device=inside.device)[:, None] * (len(W[f"K{end}"]) // cfg["groups"])
    found: Tensor = (start + inside.repeat_interleave(heads // cfg["groups"], 0)).flatten()
    return found


def _most(matters: Tensor, count: int) -> Tensor:
    """The places of the largest, in their order."""
    found: Tensor = matters.topk(count).indices.sort().values
    return found


def restarted(session: Session, data: Iterable[Run]) -> None:
    """Begins anew as the units of most Fisher information on `data`."""
    for key, tensor in started(session.model, session.adapter.targets, fisher(session, data)).items():
        path, _, name = key.rpartition(":")
        session.put(path, name, tensor)


def fisher(session: Session, data: Iterable[Run]) -> dict[str, Tensor]:
    """By path of a layer: the sum over batches of the squares of the gradient of the base's own loss."""
    import torch

    model = session.model
    paths = [one for path in session.adapter.targets for one in layers(model, path).values()]
    weights = [model.get_submodule(path)._parameters.get("weight") for path in paths]
    own = [W for W in weights if W is not None and W.is_floating_point()]
    if len(own) < len(paths):
        raise Unsupported("a packed base has no gradients to go by", hint='say init="pruned"')
    found = [torch.zeros_like(W, dtype=torch.float32) for W in own]
    with _learning(session, own):
        for run in data:
            grads = torch.autograd.grad(run()[0], own)
            found = [total + g.float().square() for total, g in zip(found, grads, strict=True)]
    return dict(zip(paths, found, strict=True))


@contextmanager
def _learning(session: Session, own: Sequence[nn.Parameter]) -> Iterator[None]:
    """While it is entered the base is alone, without dropout, and has gradients."""
    training, weight = session.model.training, session.weight
    before = [W.requires_grad for W in own]
    try:
        session.model.eval()
        session.weight = 0.0
        for W in own:
            W.requires_grad_(True)
        yield
    finally:
        for W, was in zip(own, before, strict=True):
            W.requires_grad_(was)
        session.weight = weight
        session.model.train(training)
