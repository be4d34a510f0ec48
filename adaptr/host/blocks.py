"""Blocks: how several adapters share one forward, row by row, token by token, or at shares of what each would add.

A block is a tree, evaluated at each place in a model where something of it sits: what is below is computed once, each
member is computed on that for all rows and tokens, and a block picks or weighs what came of it. So every member is what
it is alone, whatever its method; a member without anything there is what is below.

    Stack(a, b)                        b on what a gives
    Split(a, b, sizes=[4, 3])          a for the first 4 tokens, b for the next 3
    BatchSplit(a, b, None, a)          one for each row, None for the base; `sizes=[2, 2]` for several rows each
    Parallel(a, b)                     all rows of the call for a, and again for b
    Average(a, b, weights=[3, 1])      h + Σ w (y - h), h below and y a member's, the w of sum 1

(Poth et al. 2023, arXiv:2311.11077, whose words these are.) A fusion is an adapter itself, made of those that it
combines, and a member like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaptr.errors import BadConfig, Unsupported, UsageError
from adaptr.host.outputs import first_of, with_first
from adaptr.host.tree import Block, Here, Leaf, Node, Region, Span

if TYPE_CHECKING:
    from torch import nn

    from adaptr.contract import View


class Stack(Block):
    """Each on what the one before gives."""

    holds = frozenset({"Split", "BatchSplit", "Parallel", "Average"})
    whole = True

    def over(self, below: View, here: Here, region: Region) -> View:
        for member in self.members:
            below = member.over(below, here, region)
        return below


class Beside(Block):
    """Members that see the same, and of which something is made by `together`."""

    def over(self, below: View, here: Here, region: Region) -> View:
        if not here.has(self):
            return below

        def call(*args: object, **kwargs: object) -> object:
            held = below.then(call=_Once(below))
            base = held(*args, **kwargs)
            h = first_of(base)
            found: dict[tuple[int, Region], Tensor] = {}

            def of(member: Node, at: Region) -> Tensor:
                key = id(member), Region() if isinstance(member, Leaf) else at
                if key not in found:  # a leaf that stands in two places is computed once
                    found[key] = first_of(member.over(held, here, at)(*args, **kwargs)) if here.has(member) else h
                return found[key]

            return with_first(base, self.together(h, of, region, here.module, below.axis))

        return below.then(call=call, rows=unweighed)

    def together(
        self, h: Tensor, of: Callable[[Node, Region], Tensor], region: Region, module: nn.Module, axis: int
    ) -> Tensor:
        raise NotImplementedError


class Sized(Beside):
    """Members for spans of one dimension, behind each other."""

    dim: ClassVar[int] = 0
    unit: ClassVar[str] = "rows"
    hint: ClassVar[str] = "give one for each row of the batch, beams and repetitions included"
    sizes: Sequence[int] | None = None

    def spans(self, length: int) -> Iterator[Span]:
        """Of each member, within a region of that length. Raises `UsageError` where they don't fill it."""
        sizes = self.shares(length)
        if sum(sizes) != length:
            wanted = f"{length} {self.unit}, as many as there are"
            raise UsageError(f"the sizes of a {self.called}", got=f"{list(sizes)}", want=wanted, hint=self.hint)
        start = 0
        for size in sizes:
            yield Span(start, start + size)
            start += size

    def shares(self, length: int) -> Sequence[int]:
        assert self.sizes is not None
        return self.sizes

    def together(
        self, h: Tensor, of: Callable[[Node, Region], Tensor], region: Region, module: nn.Module, axis: int
    ) -> Tensor:
        if h.ndim < 2 + self.dim or (self.dim and axis != -1):
            raise Unsupported(
                f"a {self.called} tells {self.unit} apart, and a `{type(module).__name__.removeprefix('Adapted')}` "
                f"gives {tuple(h.shape)}",
                hint="choose places whose output is (rows, tokens, features)",
            )
        start, stop = region[self.dim].of(h.shape[self.dim])
        place = torch.arange(h.shape[self.dim], device=h.device).view(-1, *(1 for _ in h.shape[self.dim + 1 :]))
        y: Tensor | None = None
        for member, span in zip(self.members, self.spans(stop - start), strict=True):
            at = region._replace(**{("rows", "tokens")[self.dim]: Span(start + span.start, start + (span.stop or 0))})
            found = of(member, at)
            y = found if y is None else torch.where(place >= at[self.dim].start, found, y)
        assert y is not None, "a block has members"
        return y


class Split(Sized):
    """Along the tokens: `sizes` says how many are each member's. It can't generate with a cache, token by token."""

    holds = frozenset({"Split", "Stack", "BatchSplit", "Average"})
    dim, unit = 1, "tokens"
    hint = "a Split is for texts of one length: it does not generate with a cache, and all stacks must have that length"

    def __init__(self, *members: object, sizes: Sequence[int]) -> None:
        super().__init__(*members)
        self.sizes = _sized(self, sizes)


class BatchSplit(Sized):
    """Along the rows of a batch: `sizes` says how many are each member's, one where it says nothing."""

    holds = frozenset({"Stack", "Split", "BatchSplit", "Average"})

    def __init__(self, *members: object, sizes: Sequence[int] | None = None) -> None:
        super().__init__(*members)
        self.sizes = _sized(self, [1 for _ in members] if sizes is None else sizes)


class Parallel(Sized):
    """The call is repeated for each member, whose rows are behind each other in what comes out."""

    holds = frozenset({"Stack", "BatchSplit", "Average"})

    def shares(self, length: int) -> Sequence[int]:
        return [length // len(self.members)] * len(self.members)


class Average(Beside):
    """What each would change, at shares of sum 1: `weights`, or as much of each."""

    holds = frozenset({"Stack", "Split", "BatchSplit"})

    def __init__(self, *members: object, weights: Sequence[float] | None = None) -> None:
        super().__init__(*members)
        given = [1.0 for _ in members] if weights is None else [float(w) for w in weights]
        total = math.fsum(given)
        if len(given) != len(members) or not math.isfinite(total) or not total:
            raise BadConfig("the weights of an Average", got=given, want=f"{len(members)} numbers whose sum is not 0")
        self.weights = [w / total for w in given]

    def together(
        self, h: Tensor, of: Callable[[Node, Region], Tensor], region: Region, module: nn.Module, axis: int
    ) -> Tensor:
        y = h
        for member, w in zip(self.members, self.weights, strict=True):
            y = y + w * (of(member, region) - h)
        return y


def _sized(block: Block, sizes: Sequence[int]) -> list[int]:
    if len(sizes) != len(block.members) or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in sizes):
        raise BadConfig(f"the sizes of a {block.called}", got=list(sizes), want=f"{len(block.members)} whole numbers")
    return list(sizes)


def unweighed(s: slice) -> Tensor:
    """The rows of what has no one weight."""
    raise Unsupported(
        "a weight is read that is another one for each row or token, by the blocks on it",
        hint="attach the adapters one at a time",
    )


class _Once:
    """What is below, computed once in one call: members that change what it is given have it computed for that."""

    def __init__(self, below: View) -> None:
        self.below = below
        self.first: tuple[tuple[object, ...], dict[str, object], object] | None = None

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self.first is not None:
            known, named, output = self.first
            same = len(known) == len(args) and all(a is b for a, b in zip(known, args, strict=True))
            if same and named.keys() == kwargs.keys() and all(named[key] is kwargs[key] for key in named):
                return _own(output)
            if any(getattr(value, "get_seq_length", None) for value in (*args, *kwargs.values())):
                raise Unsupported(
                    "a member of a block gives an attention another input, and its cache would be filled twice",
                    hint="say `use_cache=False`",
                )
        output = self.below(*args, **kwargs)
        if self.first is None:
            self.first = args, kwargs, output
        return _own(output)


def _own(output: object) -> object:
    """A copy where nothing learns: adapters then add to what they are given in place."""
    return output if torch.is_grad_enabled() else with_first(output, first_of(output).clone())
