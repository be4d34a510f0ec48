"""Where a method sits in a live model, and what it does there to activations. The host puts it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptr.adapter import Adapter
from adaptr.contract import mounts
from adaptr.contract.declared import Declared
from adaptr.contract.live import Live
from adaptr.contract.mounts import Mount
from adaptr.contract.settings import C

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.sites.attention import Attend, Attended


class OnActivations(Declared[C]):
    """A method that has no part in activations supplies none of these; a formula is asked at the site of its name."""

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """The places in `model`: each target at the site of its kind, unless a method says otherwise.

        Targets, those of parts too, have the names that they have there. The tensors are not looked at.
        """
        return [mounts.of(target, self.context) for target in adapter.targets.values()]

    def inner(self, adapter: Adapter) -> Sequence[str]:
        """The names of the adapters that are part of what it mounts, in their order."""
        return list(adapter.parts)

    def placed(self, model: nn.Module, adapter: Adapter) -> Adapter:
        """`adapter` with targets of this model, where its file only numbers layers."""
        return adapter

    def output(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        """The new output (..., d) of a module, from the old one and its input."""
        raise NotImplementedError

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        """What is added to an output h (..., d), by the input x: where `output` is a sum, or others combine it."""
        raise NotImplementedError

    def input(self, x: Tensor, p: Live, cfg: C) -> Tensor:
        """What a module is given in the place of x (..., d)."""
        raise NotImplementedError

    def tap(self, h: Tensor, p: Live, cfg: C) -> None:
        """Look at the output (..., d) of a module, which stays as it is."""
        raise NotImplementedError

    def block(
        self,
        rest: Callable[..., object],
        module: nn.Module,
        p: Live,
        cfg: C,
        weight: float,
        *args: object,
        **kwargs: object,
    ) -> object:
        """What a module gives for these arguments, at a strength; `rest` is its own forward with what is below."""
        raise NotImplementedError

    def attention(self, rest: Attend, a: Attended, p: Live, cfg: C, weight: float) -> tuple[Tensor, Tensor | None]:
        """The output (batch, T, heads, width) of an attention and its weights; `rest` gives what is below."""
        raise NotImplementedError
