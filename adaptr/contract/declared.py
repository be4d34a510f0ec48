"""What a method says of itself, and what it can, which follows from that and from what it supplies."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from adaptr.contract.capabilities import Capabilities
from adaptr.contract.params import Param
from adaptr.contract.settings import C, Configured


class Declared(Configured[C]):
    """`name`: the one spelling used everywhere. `version`: of the mathematics; files carry it. `params`: its tensors at
    one target. `kinds`: target kinds it works on, and `wants`, in words, what more `accepts` asks of them. `targets`:
    roles adapted when nothing is said. `unmergeable`: a key of `REASONS` if no weight does what it does, and
    `possible`: what can be done instead.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    family: ClassVar[str] = ""
    params: ClassVar[Mapping[str, Param]] = {}
    kinds: ClassVar[frozenset[str]] = frozenset()
    wants: ClassVar[str] = ""
    targets: ClassVar[tuple[str, ...]] = ()
    #: The smallest value of a field, where that is not 1 of an axis, and none of another field.
    least: ClassVar[Mapping[str, int]] = {}
    #: The largest value of a field, where that is not the machine's to say.
    most: ClassVar[Mapping[str, int]] = {}
    #: Fields of a target's configuration that repeat one of its sizes: of which axis of its shape.
    sizes: ClassVar[Mapping[str, int]] = {}
    unmergeable: ClassVar[str] = ""
    possible: ClassVar[str] = "keep it attached"

    # what can't be seen from what it supplies: see `Capabilities`

    rowwise: ClassVar[bool] = True
    colwise: ClassVar[bool] = False
    #: Whether a fresh adapter leaves the model as it is; a method that does not says why in its docstring.
    identity: ClassVar[bool] = True
    #: Whether what it computes of a weight and back, beyond operators and what it keeps, is single operations on
    #: elements: these have the same bits on every machine, where sums, products of matrices and functions have not. If
    #: not, a receipt holds every bit that a merge changes.
    portable: ClassVar[bool] = False
    #: What `mounts` says of its places' `context`, unless it says it of each.
    context: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    #: Whether what it does to a tied weight it does in all of its uses: it has a mount at each.
    follows: ClassVar[bool] = False
    #: What an operator may be for `written` to make tensors of it.
    forms: ClassVar[frozenset[str]] = frozenset()
    tokens: ClassVar[int | None] = None
    #: What it is taken for where no method is named, some of `capabilities.USES`; one built-in method for each.
    default_for: ClassVar[frozenset[str]] = frozenset()
    #: Whether there is none that is made of no others.
    needs: ClassVar[bool] = False
    #: Of methods that are made of others: whether those learn too.
    trains_parts: ClassVar[bool] = True
    #: Whether a step of training may leave some of what learns out of it.
    skips: ClassVar[bool] = False
    #: How fast it learns, where nothing is said: a learning rate of AdamW.
    rate: ClassVar[float] = 1e-3
    #: Fields of a recipe that go with it where they are not said; all of them only with the first as it is here.
    recipe: ClassVar[Mapping[str, Any]] = {}

    #: For its laws: a configuration for models of width 32, and name to (method, targets, configuration) of adapters
    #: that it can be made of.
    small: ClassVar[Mapping[str, Any]] = {}
    examples: ClassVar[Mapping[str, tuple[str, Sequence[str] | None, Mapping[str, Any]]]] = {}
    #: What a method of the family must supply, one of several where `|` stands between them.
    formulas: ClassVar[tuple[str, ...]] = ("view",)

    @functools.cached_property
    def can(self) -> Capabilities:
        """What the method can."""
        return self.capabilities()

    def capabilities(self) -> Capabilities:
        """Derived from what the class supplies, where that says it, and declared where it can't."""
        return Capabilities(
            adds=self.supplies("operator") or self.supplies("shift"),
            delta=self.supplies("operator"),
            weighs=not self.unmergeable and (self.supplies("operator") or not self.supplies("shift")),
            identity=self.identity,
            rowwise=self.rowwise,
            colwise=self.colwise,
            inverse=self.supplies("inverse"),
            portable=self.portable,
            row=self.supplies("row"),
            factors=self.supplies("factors"),
            learns=any(param.trains for param in self.params.values()),
            schedule=any(map(self.supplies, ("after_step", "phases", "prepare"))),
            over=self.supplies("over"),
            needs=self.needs,
            parts=self.supplies("parts"),
            gates=self.supplies("mix"),
            branch=self.supplies("branch"),
            forms=self.forms,
            averages=self.averages,
            follows=self.follows,
            tokens=self.tokens,
        )

    def merges(self, cfg: C) -> bool:
        """Whether some weight does what an adapter of that configuration does; of one that is made of others that are
        given, whether it does where theirs do.
        """
        return not self.unmergeable

    @classmethod
    def supplies(cls, member: str) -> bool:
        """Whether the class has a member of its own where the contract has one that does nothing or refuses."""
        owner = next(one for one in cls.__mro__ if member in vars(one))
        return owner.__module__.rpartition(".")[0] != __package__

    @classmethod
    def claims(cls) -> Iterator[tuple[str, str]]:
        """What the class says of itself and lacks the member for, with the member where there is one."""
        yield from ()
