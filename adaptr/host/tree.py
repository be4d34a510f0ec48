"""A tree of adapters that one forward has, as every place in a model evaluates it (decision 37)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from adaptr.contract import View
from adaptr.errors import UsageError
from adaptr.host import beside

if TYPE_CHECKING:
    from torch import nn

    from adaptr.host.arrangement import Arrangement
    from adaptr.host.state import State


class Span(NamedTuple):
    """From which row or token to which; `stop` None: to the last."""

    start: int = 0
    stop: int | None = None

    def of(self, length: int) -> tuple[int, int]:
        return self.start, length if self.stop is None else self.stop


class Region(NamedTuple):
    """The rows and tokens that a member of a block is for."""

    rows: Span = Span()
    tokens: Span = Span()


class Here(NamedTuple):
    """The place where a tree is evaluated: what of its leaves sits there."""

    module: nn.Module
    states: Sequence[State]

    def has(self, node: Node) -> bool:
        return any(state.leaf is leaf for leaf in node.leaves() for state in self.states)


class Node:
    """A block or a leaf."""

    def leaves(self) -> Iterator[Leaf]:
        raise NotImplementedError

    def over(self, below: View, here: Here, region: Region) -> View:
        """What is below with the members on it, for a region; what comes out elsewhere means nothing."""
        raise NotImplementedError


class Leaf(Node):
    """One adapter, or None for nothing. `given`: as people gave it; the same one may stand in several places.

    `arrangement`: that of its states, once it is attached.
    """

    def __init__(self, given: object) -> None:
        self.given = given
        self.arrangement: Arrangement | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return Leaf, (None,), {"given": None, "arrangement": self.arrangement}  # a copy of a model needs no more

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def over(self, below: View, here: Here, region: Region) -> View:
        for state in here.states:
            if state.leaf is self and state.strength:
                weighs = state.site.weighs
                call = beside.applied(below, state) if weighs else state.site.around(below, state, here.module)
                below = call if isinstance(call, View) else below.then(call=call)
        return below


class Block(Node):
    """Members in their order: adapters, or blocks of those that `holds` names. Raises `UsageError` for others."""

    holds: ClassVar[frozenset[str]] = frozenset()
    #: Whether members are for all rows and tokens, one on the other.
    whole: ClassVar[bool] = False

    def __init__(self, *members: object) -> None:
        if not members:
            raise UsageError(f"a {self.called} of nothing", hint="give it adapters")
        for member in members:
            if isinstance(member, Block) and member.called not in self.holds:
                raise UsageError(
                    f"a {self.called} holds no {member.called}",
                    hint=f"it holds adapters, {', '.join(sorted(self.holds))}",
                )
        self.members: list[Node] = [one if isinstance(one, Node) else Leaf(one) for one in members]

    @property
    def called(self) -> str:
        return type(self).__name__

    def leaves(self) -> Iterator[Leaf]:
        for member in self.members:
            yield from member.leaves()

    def blocks(self) -> Iterator[Block]:
        yield self
        for member in self.members:
            if isinstance(member, Block):
                yield from member.blocks()

    def joined(self, known: dict[object, Leaf]) -> None:
        """Let what is given twice be one leaf, that of `known`, which grows."""
        for i, member in enumerate(self.members):
            if isinstance(member, Block):
                member.joined(known)
            elif isinstance(member, Leaf) and member.given is not None:
                self.members[i] = known.setdefault(_key(member.given), member)


def _key(given: object) -> object:
    """By which what is given is known: a text by what it says, an adapter by itself."""
    return given if isinstance(given, str) else id(given)
