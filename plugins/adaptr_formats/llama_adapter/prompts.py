"""The prompts of the topmost layers and their gates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, TensorAbsent, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import cuts
from adaptr.foreign.pieces.module import Layer, complete

if TYPE_CHECKING:
    from torch import Tensor, nn

QUERY = "adapter_query.weight"


@dataclass(frozen=True)
class Prompts:
    """`gates`: the keys of those in use, by layer, of `shape` each."""

    gates: Mapping[int, str]
    shape: tuple[int, ...]
    tokens: int
    width: int

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], gates: Mapping[int, str]
    ) -> Prompts:
        """Raises `TensorAbsent` for prompts without gates or the other way round, `ConfigConflict` for other shapes."""
        if QUERY not in shapes or not gates:
            gone = f"`{QUERY}`" if QUERY not in shapes else "`layers.N.attention.gate`"
            raise TensorAbsent(f"the file has no {gone}", hint=phrases.AGAIN)
        shape = _shape({shapes[key] for key in gates.values()})
        used = {layer: gates[layer] for layer in sorted(gates) if tensors[gates[layer]].count_nonzero()}
        _require_topmost(used, gates)
        prompts = shapes[QUERY]
        if len(prompts) != 2 or 0 in prompts or prompts[0] % len(used):
            want = f"as many rows for each of {len(used)} layers, whose gates are not zero"
            raise ConfigConflict(f"`{QUERY}`", verb="has", got=f"shape {prompts}", want=want, hint=phrases.AGAIN)
        return cls(used, shape, prompts[0] // len(used), prompts[1])

    def layers(self, model: nn.Module | None) -> Iterator[Layer]:
        bare = len(self.shape) == 1
        heads = 1 if bare else self.shape[1]
        said = {"gate": "layer", "activation": "none"} if bare else {}
        values = {"tokens": self.tokens, "layers": len(self.gates), "width": self.width, "heads": heads, **said}
        for number, (layer, key) in enumerate(self.gates.items()):
            path = f"model.layers.{layer}.self_attn"
            target = Target(path, kinds.ATTENTION, (0, 0), complete("llama-adapter", values))
            rows = partial(cuts.rows, number * self.tokens, self.tokens)
            pieces = {"A": Piece(QUERY, (self.tokens, self.width), then=rows), "g": Piece(key, (heads, 1, 1))}
            yield Layer("llama-adapter", placing.attention(model, target), pieces)


def _shape(found: set[tuple[int, ...]]) -> tuple[int, ...]:
    """What all gates have."""
    shape = next(iter(found))
    if len(found) > 1 or 0 in shape or (shape != (1,) and shape != (1, *shape[1:2], 1, 1)):
        want = "(1, heads, 1, 1) each"
        raise ConfigConflict("the gates", verb="have", got=f"shapes {sorted(found)}", want=want, hint=phrases.AGAIN)
    return shape


def _require_topmost(used: Iterable[int], gates: Iterable[int]) -> None:
    """Raises `ConfigConflict` unless the layers in `used` are the topmost of those that have `gates`."""
    mine = sorted(used)
    if not mine or mine != sorted(gates)[-len(mine) :] or mine[-1] - mine[0] != len(mine) - 1:
        raise ConfigConflict(
            "the gates that are not zero", verb="are", got=f"those of layers {mine}", want="those of the topmost",
            hint="how many tokens each layer has, a file tells by them: get it again, or train it on",
        )  # fmt: skip
