"""What a method supplies, typed: its table, its formulas, what becomes of it in training. Read after `hookspecs`.

`Contract[C]` has C, a frozen dataclass, for its configuration: `class LoRA(Delta[Config])`. Formulas get the tensors of
one target as `Live` and their configuration as C. What is not supplied is what most methods do. A family
(`adaptr.families`) answers the five verbs with these members, and asks its methods for one or two formulas.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from adaptr.adapter import Adapter, Target, weighting
from adaptr.contract import mounts
from adaptr.contract.capabilities import Capabilities
from adaptr.contract.lifecycle import FINISHED, Group, Phase, Run
from adaptr.contract.live import Live, Weighing
from adaptr.contract.mounts import Mount
from adaptr.contract.params import Param
from adaptr.contract.settings import C, Configured
from adaptr.contract.view import View
from adaptr.errors import NotMergeable, Unsupported, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.algebra.operator import Operator
    from adaptr.families.row import Row
    from adaptr.host import Session
    from adaptr.sites.attention import Attend, Attended
    from adaptr.targets import Spec


#: What `merge` answers for methods that have no weight, by the kind of reason.
REASONS = {
    "non-linear": "it applies a non-linear function to the activation, so no change to the base weights reproduces it",
    "gated": "its weights are others for each token, so no change to the base weights reproduces it",
    "elsewhere": "it changes what goes into a layer or comes out of it",
    "positions": "what it does depends on where a token stands in its text, so no change to the base weights does it",
    "tokens": "it adds key/value or token positions, not weights",
}


class Member(NamedTuple):
    """An adapter inside another one, and how strong it is at each path."""

    name: str
    adapter: Adapter
    strength: Callable[[str], float]


class Contract(Configured[C]):
    """All that the core may ask of a method.

    `name`: the one spelling used everywhere. `version`: of the mathematics; files carry it. `params`: its tensors at
    one target. `kinds`: target kinds it works on. `targets`: roles adapted when nothing is said. `unmergeable`: a key
    of `REASONS` if no weight does what it does, and `possible`: what can be done instead.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    family: ClassVar[str] = ""
    params: ClassVar[Mapping[str, Param]] = {}
    kinds: ClassVar[frozenset[str]] = frozenset()
    targets: ClassVar[tuple[str, ...]] = ()
    #: The smallest size of an axis where it is not 1.
    least: ClassVar[Mapping[str, int]] = {}
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
    #: Whether its formulas read what a forward knows (`p.context`); a model pays for that only where one does.
    context: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    tokens: ClassVar[int | None] = None
    #: Of methods that are made of others: whether those learn too.
    trains_parts: ClassVar[bool] = True
    #: How fast it learns, where nothing is said: a learning rate of AdamW.
    rate: ClassVar[float] = 1e-3

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
            merge=not self.unmergeable,
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
            parts=self.supplies("parts"),
            gates=self.supplies("mix"),
            branch=self.supplies("branch"),
            forms=self.forms,
            context=self.context,
            averages=self.averages,
            tokens=self.tokens,
        )

    @classmethod
    def supplies(cls, member: str) -> bool:
        """Whether the class has a member of its own where the contract has one that does nothing or refuses."""
        return getattr(cls, member) is not getattr(Contract, member)

    @classmethod
    def claims(cls) -> Iterator[tuple[str, str]]:
        """What the class says of itself and lacks the member for, with the member where there is one."""
        yield from ()

    # ------------------------------------------------------------ where it sits in a live model: the host puts it there

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """The places in `model`: each target at the site of its kind, unless a method says otherwise.

        Targets, those of parts too, have the names that they have there. The tensors are not looked at.
        """
        return [mounts.of(target) for target in adapter.targets.values()]

    def inner(self, adapter: Adapter) -> Sequence[str]:
        """The names of the adapters that are part of what it mounts, in their order."""
        return list(adapter.parts)

    def placed(self, model: nn.Module, adapter: Adapter) -> Adapter:
        """`adapter` with targets of this model, where its file only numbers layers."""
        return adapter

    # ------------------------------------------------------------ on activations, at the site of that name

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

    def key(self, path: str, name: str) -> str:
        """What a tensor of a target is called in a file: those that all targets share are there once."""
        return f":{name}" if self.params[name].shared else f"{path}:{name}"

    # ------------------------------------------------------------ on weights

    def refusal(self) -> NotMergeable:
        """Why no weight does what the method does."""
        return NotMergeable(self.name, REASONS[self.unmergeable or "elsewhere"], self.possible)

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        """The layer `base` with the adapter in it."""
        raise NotImplementedError

    def inverse(self, merged: View, p: Live, cfg: C, kept: Mapping[str, Tensor], weight: float) -> View:
        """The layer below `merged`."""
        raise Unsupported(f"`{self.name}` has no inverse; keep the base's tensors")

    def keep(self, base: View, p: Live, cfg: C, rows: slice) -> dict[str, Tensor]:
        """What `inverse` needs beyond the adapter, for `rows` of the weight: usually nothing."""
        return {}

    def keep_whole(self, p: Live, cfg: C, weight: float) -> dict[str, Tensor]:
        """The same for all rows at once: what follows from the adapter, but not on every machine to the bit."""
        return {}

    def travels(self, p: Live, cfg: C) -> bool:
        """Whether its inverse has the same bits on every machine, of a View that is `exact`."""
        return self.can.inverse and self.portable

    def operator(self, target: Target, p: Live) -> Operator:
        """D at a target, where the method adds one to the weight that does not depend on the weight."""
        raise Unsupported(f"`{self.name}` has no delta of its own")

    def shift(self, p: Live, cfg: C, weight: float = 1.0) -> Tensor | None:
        """What is added to the bias at a strength, in fp32 or better; None for nothing."""
        return None

    def factors(self, cfg: C) -> tuple[str, str, float] | None:
        """The names of B and A, and s, where all that the method does is to add s B A, made of these very tensors.

        Adapters that say so are computed together where several meet. None for all others.
        """
        return None

    def row(self, target: Target, base: View, p: Live) -> Row:
        """What one row of a batch needs at a linear layer, where each row has its own adapter.

        `base`: the layer without adapters. Raises `Unsupported` where the method can't be said so.
        """
        raise Unsupported(self.no_row)

    @property
    def no_row(self) -> str:
        """Why there is no row, "" where there is one."""
        if self.can.row:
            return ""
        other = "what it does to a weight is neither of low rank nor a scale of features"
        reason = REASONS.get(self.unmergeable, other)
        return (
            f"`{self.name}` can't be one row of a batch among other adapters: {reason}. Possible: attach it to a model "
            "of its own, or `adaptr convert --method lora --rank R`, which measures the error, where it has a weight."
        )

    # ------------------------------------------------------------ the way back

    #: What an operator may be for `written` to make tensors of it.
    forms: ClassVar[frozenset[str]] = frozenset()

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and tensors at a target that make the change `op` of the weight and `bias` of the bias."""
        raise Unsupported(f"no delta can be written as `{self.name}`: its tensors don't follow from what they do")

    # ------------------------------------------------------------ made of others

    def parts(self, cfg: C) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        """Of an arrangement of other methods: part name to (method, targets or None for its default, configuration)."""
        return {}

    def mix(self, x: Tensor, p: Weighing, cfg: C) -> Tensor:
        """Of a gate: the experts' weights at one layer from its input."""
        raise Unsupported(f"`{self.name}` weighs no other adapters")

    def members(self, adapter: Adapter) -> list[Member]:
        """The adapters that `adapter` is made of, in their order, with their strengths: usually itself."""
        return [Member("", adapter, lambda path: 1.0)]

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A fresh adapter over others, which `children` has as its parts. `model`: the base, None where unknown."""
        raise UsageError(f"`{self.name}` is made of no other adapters: leave `children` out")

    # ------------------------------------------------------------ a fresh adapter

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        """Fill in configuration fields that follow from the model and from all the places together."""
        return values

    def accepts(self, model: nn.Module, target: Target) -> bool:
        """Whether a module that matches is one this method can use."""
        return True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        """Configuration for one target where it depends on the place."""
        return values

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        """Sizes of axes that follow from target and configuration together. Raises `BadConfig` if they don't fit."""
        return {}

    def init_rule(self, param: str, target: Target) -> str:
        """How a tensor starts at a target."""
        return self.params[param].init

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors whose `init` is "custom", from the base and from those that are `made`."""
        return {}

    # ------------------------------------------------------------ in training, in the order in which it happens

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        """Before the first step, once: initialisations from the base (`session.base`) or from forwards of some data."""

    def phases(self, cfg: C) -> Sequence[Phase]:
        """What training is made of, in order: usually one phase."""
        return (Phase("train"),)

    def begin(self, session: Session, phase: str) -> None:
        """What happens where a phase that is not the first begins; an optimiser of its own comes after it."""

    def groups(self, session: Session) -> Sequence[Group]:
        """What optimisers get: every trained tensor once."""
        return (Group(list(session.parameters())),)

    def objective(self, session: Session, run: Run) -> Tensor:
        """The loss of the batch of which `run()` is one forward: usually that forward's, and the penalty."""
        loss: Tensor = run()[0] + session.penalty()
        return loss

    def penalty(self, session: Session) -> Tensor | float:
        """What a training loss has added to it, beyond the task's own: usually nothing."""
        return 0.0

    def after_step(self, session: Session) -> None:
        """What a schedule does after each optimiser step, while gradients are still there: usually nothing.

        `session.steps` counts from 1; `session.memory` is the method's own between steps, tensors by `<path>:<name>`.
        """

    def remembered(self, session: Session) -> Mapping[str, Tensor]:
        """What is saved with an adapter in training, for going on: all of the session's memory, or what is needed."""
        return session.memory

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        """What is kept of `adapter`, trained: usually all but what is for training only."""
        return finished(self, adapter)

    def check_weight(self, weight: float) -> None:
        """Raises `UsageError` or `Unsupported` for a strength that this method can't be applied with."""
        weighting.number(weight, self.name)


def finished(method: Contract[Any], adapter: Adapter) -> Adapter:
    """`adapter` without what its method goes on by and what is there `unless="finished"`, which it says it is."""
    if FINISHED not in {field.name for field in dataclasses.fields(method.Config)}:
        return adapter.remembering({})
    config = {**adapter.config, FINISHED: True}
    targets = {
        path: dataclasses.replace(target, config={**target.config, FINISHED: True})
        for path, target in adapter.targets.items()
    }

    def stays(key: str) -> bool:
        path, _, name = key.rpartition(":")
        said = targets[path].config if path in targets else config
        return name not in method.params or method.params[name].present(said)

    tensors = {key: tensor for key, tensor in adapter.tensors.items() if stays(key)}
    return adapter.replace(config=config, targets=targets, tensors=tensors).remembering({})
