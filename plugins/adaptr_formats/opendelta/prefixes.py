"""OpenDelta's prefixes: keys and values (tokens, width) of attentions, or a network that makes them of a table.

The network has no use once it is trained: what it makes is what is read. Text stays at positions 0, 1, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, TargetNotFound, Unsupported, phrases, shown
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, complete

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.opendelta.said import Said

_WHY = "how many heads the values of a prefix are for only the base says"
_TABLE, _W, _B, _U, _C = "wte.weight", *(f"control_trans.{n}.{name}" for n in (0, 2) for name in ("weight", "bias"))
_NOT = {
    "t5": "with it OpenDelta leaves out the biases of positions of all layers but the first",
    "distilbert": "OpenDelta's own code says that these have bugs",
}
_KNOWN = ("gpt2", "bert", "roberta", "bart")


def layers(modules: list[Module], said: Said) -> Iterator[Layer]:
    _require_known(said)
    if not any(module.has(_TABLE) for module in modules):
        for module in modules:
            yield _layer(module.path, said, {side: _plain(module, f"past_{name}") for side, name in
                                             (("K", "key"), ("V", "value"))})  # fmt: skip
        return
    if len(modules) != 1:
        raise ConfigConflict("the file", verb="holds", got="several networks", want="one", hint=phrases.AGAIN)
    (module,) = modules
    paths = [*said.walked(said.words("modified_modules") or ["attn@"], "which attentions it is for only the base says")]
    tokens, sizes = _network(module, len(paths))
    for number, path in enumerate(paths):
        yield _layer(path, said, {side: _made(module, tokens, sizes, 2 * number + n) for n, side in enumerate("KV")})


def _require_known(said: Said) -> None:
    model: Any = placing.needed(said.model, "OpenDelta's prefix", _WHY)
    kind = str(getattr(model.config, "model_type", ""))
    if kind not in _KNOWN:
        why = _NOT.get(kind, "adaptr has not seen what OpenDelta computes with it")
        raise Unsupported(
            f"a prefix of OpenDelta's for `{shown(kind)}` is not read: {why}",
            hint=f"those for {phrases.listed(_KNOWN)} are",
        )


def _plain(module: Module, slot: str) -> Piece:
    return module.piece(slot, module.shape(slot, (2,)))


def _layer(path: str, said: Said, rows: dict[str, Piece]) -> Layer:
    from adaptr import targets as places

    model = placing.needed(said.model, path, _WHY)
    here = [one for one in places.resolve(model, "attention", {kinds.ATTENTION}) if f".{path}." in f".{one.path}."]
    if len(here) != 1:
        raise TargetNotFound(f"`{path}` is no attention of the base", hint=phrases.BASE)
    heads, width = here[0].shape
    tokens, size = rows["K"].shape
    if size != heads * width or rows["V"].shape != (tokens, size):
        raise ConfigConflict(
            f"`{rows['K'].source}`",
            verb="is of",
            got=f"{rows['K'].shape} and {rows['V'].shape}",
            want=f"two of {heads} heads of {width}",
            hint=phrases.BASE,
        )
    values = complete("prefix", {"tokens": tokens, "position_offset": "none"})
    pieces = {name: _headed(one, heads) for name, one in rows.items()}
    return Layer("prefix", Target(here[0].path, kinds.ATTENTION, (heads, width), values), pieces)


def _headed(rows: Piece, heads: int) -> Piece:
    """Rows (tokens, width of all heads) as (heads, tokens, width)."""
    tokens, size = rows.shape

    def cut(value: Tensor) -> Tensor:
        return rows.take(value).view(tokens, heads, -1).transpose(0, 1)

    return Piece(rows.source, (heads, tokens, size // heads), then=cut)


def _network(module: Module, count: int) -> tuple[int, int]:
    """(tokens, width of all heads)."""
    (tokens, wide), (mid, _), (rows, _) = (module.shape(slot, (2,)) for slot in (_TABLE, _W, _U))
    for slot, want in ((_W, (mid, wide)), (_B, (mid,)), (_U, (rows, mid)), (_C, (rows,))):
        module.require(slot, module.shape(slot, (len(want),)) == want, f"{want}, as the others say")
    module.require(_U, count > 0 and rows % (2 * count) == 0, f"rows for the keys and values of {count} attentions")
    return tokens, rows // (2 * count)


def _made(module: Module, tokens: int, size: int, number: int) -> Piece:
    """What the network makes of its table, these rows of it, in fp64."""
    rows = slice(number * size, (number + 1) * size)

    def computed(last: Tensor) -> Tensor:
        import torch

        table, W, b, c = (module.file[module.keys[slot]].double() for slot in (_TABLE, _W, _B, _C))
        found = torch.tanh(table @ W.T + b) @ last[rows].double().T + c[rows]
        return found.to(last.dtype)

    return Piece(module.keys[_U], (tokens, size), then=computed)
