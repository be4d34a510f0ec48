"""Side methods: a network beside the model, which reads what blocks put out and goes on by itself.

The author supplies `params`, `tap(h, p, cfg)`, which reads the output of a block, and `last(h, x, p, cfg)`, what is
there in the place of the last block's; x is what the first block is given. No gradient goes into the base: what is
read is apart from its graph, and what learns below would get none, so that this is refused. One that runs blocks once
more (`again`) supplies `block` in the place of both, and says so in its `formulas`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from adaptr.adapter import kinds
from adaptr.contract import Live, Mount
from adaptr.contract.settings import C
from adaptr.errors import Unsupported
from adaptr.families.base import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from adaptr.adapter import Adapter, Target


class Side(Method[C]):
    """A small network beside the model's blocks."""

    family: ClassVar[str] = "side"
    formulas: ClassVar[tuple[str, ...]] = ("last",)
    kinds: ClassVar[frozenset[str]] = frozenset({kinds.PLACE})
    targets: ClassVar[tuple[str, ...]] = ("block_out",)
    unmergeable: ClassVar[str] = "network"
    identity: ClassVar[bool] = False
    kept_within: ClassVar[float] = 0.1
    #: Whether it goes along an encoder and its decoder.
    two: ClassVar[bool] = False

    def tap(self, h: Tensor, p: Live, cfg: C) -> None:
        """What is made of the output h (..., d) of a block that is not the last."""
        raise NotImplementedError

    def last(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        """What is there in the place of the output h (..., d) of the last block, x (..., d) the input of the first."""
        raise NotImplementedError

    def output(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        return self.last(read(h, p), read(x, p), p, cfg)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """All blocks are read, and the output of the last is replaced."""
        targets = [adapter.targets[path] for path, _ in model.named_modules() if path in adapter.targets]
        *others, end = (target.path for target in targets)  # a file has a decoder before its encoder
        first = self.stacks(targets)[-1][0].path
        return [*(Mount(path, "tap", context=True) for path in others), Mount(end, "output", (first,), context=True)]

    def stacks(self, targets: Sequence[Target]) -> list[list[Target]]:
        """The targets of each stack of blocks, in their order: those whose paths differ in the last name alone."""
        found: dict[str, list[Target]] = {}
        for target in targets:
            found.setdefault(target.path.rpartition(".")[0], []).append(target)
        return [*found.values()]

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        """Raises `Unsupported` for stacks that it does not go along, and for blocks that run several times in a
        forward.
        """
        from adaptr import targets as places

        config = places.text_config(model)
        blocks = places.resolve(model, "block_out", self.kinds)
        wanted = 2 if getattr(config, "is_encoder_decoder", False) else 1
        if wanted > 1 and not self.two:
            raise Unsupported(
                f"`{self.name}` goes along one stack of blocks, and the model has two", hint="choose another method"
            )
        if len(self.stacks(targets)) != wanted or len({target.shape for target in targets}) > 1:
            raise Unsupported(
                f"the stacks of blocks that `{self.name}` goes along",
                verb="are",
                got=str(len(self.stacks(targets))),
                want="two of one width, an encoder and its decoder" if wanted > 1 else "one",
                hint="choose the targets so",
            )
        if len(blocks) < getattr(config, "num_hidden_layers", 0):
            raise Unsupported(
                f"`{self.name}` reads each block once, and `{blocks[0].path}` is several of the model's",
                hint="choose another method",
            )
        return super().together(model, targets)


def again(rest: Callable[..., object], z: Tensor, cache: object, *args: object, **kwargs: object) -> Tensor:
    """What a block that was called with these gives for z in the place of its input, and a cache of its own or none."""
    from adaptr.host.outputs import first_of

    def own(given: object) -> object:
        return cache if hasattr(given, "get_seq_length") else given

    named = {name: own(given) for name, given in kwargs.items()}
    if args:
        return first_of(rest(z, *map(own, args[1:]), **named))
    return first_of(rest(**{**named, next(iter(kwargs)): z}))


def read(h: Tensor, p: Live) -> Tensor:
    """What a block has put out, apart from the base's graph. Raises `Unsupported` where something below learns."""
    if h.requires_grad and p.training:
        raise Unsupported(
            f"what `{p.place}` puts out has a gradient, and none goes back into the base from beside it: another "
            "adapter learns below, or the embeddings are made to have one",
            hint="train one at a time, and say no `enable_input_require_grads`",
        )
    return h.detach()
