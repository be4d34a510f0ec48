"""`Session`: an adapter that learns, from its preparation to what is kept of it (decision 0018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptr import plugins
from adaptr.adapter import TAKEN, Adapter
from adaptr.contract import Group, Phase, Run, View
from adaptr.contract.lifecycle import MASK
from adaptr.errors import UsageError
from adaptr.host.call import find, put, restore
from adaptr.host.gradients import Gradients
from adaptr.host.handle import Handle
from adaptr.host.identity import content_of
from adaptr.host.layer import view_of
from adaptr.host.masks import Masks

if TYPE_CHECKING:
    from adaptr.families.base import Method

#: Fields of an adapter's `training`, beside the steps taken: whether it was prepared, and the phase it is in.
PREPARED, PHASE = "prepared", "phase"


class Session(Handle):
    """A `Handle` whose tensors learn.

    A trainer calls `prepare` once, `begin` where a phase begins, then for each batch `objective` and after the
    optimiser's step, while gradients are there, `after_step`; `finish` gives what is kept. `steps`: taken so far;
    `phase`: the number of the one at work; `memory`: what the method keeps between steps. Where the method has a
    schedule these are those of the adapter, which `adapted` gives them back to: training that is saved, loaded and
    continued is training that was never interrupted.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, key: str) -> None:
        super().__init__(model, adapter, key)
        self.method: Method = plugins.method(adapter.method)
        self.scheduled: bool = self.method.can.schedule
        known: Mapping[str, Any] = adapter.training if self.scheduled else {}
        self.steps: int = known.get(TAKEN, 0)
        self.phase: int = known.get(PHASE, 0)
        self.prepared: bool = known.get(PREPARED, False)
        self.gradients: Gradients | None = None
        self.memory: dict[str, Tensor] = dict(adapter.memory)
        self._set: dict[str, Tensor] = {}
        self._masks = Masks(self)

    # ------------------------------------------------------------ what learns

    def named(self) -> dict[str, nn.Parameter]:
        """What learns by its key in a file: the adapter's own tensors, then whole parameters of the base."""
        own = {state.key(name): state[name] for state in self.states.values() for name in state.learning}
        whole = {f"{path}:=": p for path, r in self.replacements.items() if (p := r.learning) is not None}
        return {**own, **whole}  # type: ignore[dict-item]

    def parameters(self) -> Iterator[nn.Parameter]:
        """What an optimiser gets: the adapter's own tensors and replaced parameters, nothing else."""
        yield from self.named().values()

    def groups(self) -> list[Group]:
        """The same in groups with rates of their own. Raises `UsageError` unless each is there once."""
        found = list(self._groups())
        had = [id(p) for group in found for p in group.params]
        names = {id(p): key for key, p in self.named().items()}
        wrong = [key for one, key in names.items() if had.count(one) != 1]
        if wrong or len(had) != len(names):
            raise UsageError(
                f"the groups of `{self.adapter.method}` must have every trained tensor once, and nothing else: "
                f"{', '.join(wrong[:4]) or 'they have tensors that do not learn'}",
                hint="mend its `groups`",
            )
        return found

    def _groups(self) -> Sequence[Group]:
        return self.method.groups(self)

    def base(self, path: str) -> View:
        """The layer at a target without adapters: its weight and bias, with no gradients."""
        return view_of(self.model, self.adapter.targets[path])

    def below(self, path: str) -> Tensor:
        """The base's own value of a parameter that is trained whole."""
        return self.replacements[path].before.detach()

    def put(self, path: str, name: str, value: Tensor) -> None:
        """Give a tensor of the adapter another value, in its place, whether it learns or not."""
        state, key = (
            next(s for s in self.states.values() if name in s and path in {"", s.target.path}),
            f"{path}:{name}",
        )
        own = name in state.learning
        if not (own or key in self._set):  # the values are those of the adapter that was given, which stays as it is
            state[name].data = state[name].data.clone()
        with torch.no_grad():
            state[name].copy_(value)
        if not own:
            self._set[key] = state[name]

    def mask(self, key: str, entries: Tensor) -> None:
        """Let only those entries of what `named` calls `key` learn, where `entries` (bool) is true, from now on."""
        self._masks.drop(key)
        self.memory[key + MASK] = entries.bool()
        self._masks.heed()

    # ------------------------------------------------------------ the course of training

    def prepare(self, data: Iterable[Run] = ()) -> None:
        """Begin, once: a session that goes on has begun. `data`: forwards of some batches, for methods that look."""
        if not self.prepared:
            self.method.prepare(self, data)
            self.prepared = True

    def phases(self) -> list[Phase]:
        return list(self.method.phases(self.method.config(self.adapter.config)))

    def begin(self, number: int) -> None:
        """Begin that phase, unless it is the one at work; an optimiser is made anew after it."""
        if number != self.phase:
            self.phase = number
            self.method.begin(self, self.phases()[number].name)

    def objective(self, run: Run) -> Tensor:
        """The loss of a batch. `run`: one forward of it, which gives (loss, output), each time it is called."""
        self._masks.heed()
        return self.method.objective(self, run)

    @contextmanager
    def saying(self, **values: object) -> Iterator[None]:
        """While it is entered, in this thread, formulas find these as `p.context.said(p, name)`, with what is said of
        forwards already: by a trainer `TASKS`, where records say of which task they are.
        """
        before = put(self.draws.aside, {**self.said, **values})
        try:
            yield
        finally:
            restore(before)

    @property
    def said(self) -> Mapping[str, Any]:
        return find(self.draws.aside) or {}

    def through(self, run: Run) -> Tensor:
        """The loss of a batch as the parts have it, each with its own objective: without parts, that of the forward."""
        return run()[0]

    def penalty(self) -> Tensor | float:
        """What the method wants added to the loss, 0.0 if nothing: part of `objective`."""
        return self.method.penalty(self)

    def after_step(self) -> None:
        """Called after each optimiser step and before the gradients are cleared; methods with a schedule work here."""
        self.steps += 1
        if self.gradients is not None:
            self.gradients.check()
        self._masks.keep()
        self.method.after_step(self)

    def finish(self) -> Adapter:
        """The adapter that is kept: without what is there for training only, and at no phase of it. It may have left
        targets out.
        """
        made = self.method.finish(self, self.adapted())
        made = made.replace(training={key: said for key, said in made.training.items() if key != PHASE})
        if not made.base.content or made.targets.keys() == self.adapter.targets.keys():
            return made
        return made.replace(base=dataclasses.replace(made.base, content=content_of(self.model, made.targets)))

    def adapted(self) -> Adapter:
        """The adapter with its tensors as they are now, to go on with or to look at."""
        live = {key: p.detach().clone() for key, p in (*self.named().items(), *self._set.items()) if key[-2:] != ":="}
        made = self.adapter.replace(tensors={**self.adapter.tensors, **live, **self._replaced()})
        return self._progressed(made) if self.scheduled else made

    def _progressed(self, made: Adapter) -> Adapter:
        """`made` with how far the schedule is, and what the method goes on by."""
        memory = {key: tensor.detach().clone() for key, tensor in self.method.remembered(self).items()}
        known = {**({PHASE: self.phase} if self.phase else {}), **({PREPARED: True} if self._has_prepared else {})}
        return made.replace(training={**made.training, TAKEN: self.steps, **known}).remembering(memory)

    @property
    def _has_prepared(self) -> bool:
        return self.prepared and self.method.supplies("prepare")

    def _replaced(self) -> dict[str, Tensor]:
        return {f"{path}:=": replacement.learned() for path, replacement in self.replacements.items()}

    # ------------------------------------------------------------ going on

    def state(self) -> dict[str, Any]:
        """All that training goes on by, beside the optimiser's: what `torch.load(weights_only=True)` reads."""
        tensors = {key: p.detach().clone() for key, p in (*self._moving().items(), *self._set.items())}
        memory = {key: tensor.detach().clone() for key, tensor in self.memory.items()}
        return {**self._counters(), "tensors": tensors, "memory": memory}

    def _moving(self) -> dict[str, Tensor]:
        """What learns, and the statistics that forwards in training write to."""
        written = {f"{p}:=": r.value for p, r in self.replacements.items() if not isinstance(r.value, nn.Parameter)}
        return {**self.named(), **written}

    def _counters(self) -> dict[str, Any]:
        draws = {"seed": self.draws.seed, "number": self.draws.number}
        return {"steps": self.steps, "phase": self.phase, "prepared": self.prepared, "draws": draws}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, of a session of the same adapter. Raises `UsageError` for another's."""
        tensors, known = state["tensors"], self._moving()
        if missing := known.keys() - tensors.keys():
            raise UsageError(
                f"the state is of another adapter: it has no {', '.join(sorted(missing)[:4])}",
                hint="give a state of this one, made by `state()` of its session",
            )
        self._masks.drop()
        for key, tensor in tensors.items():
            if key in known:
                with torch.no_grad():
                    known[key].copy_(tensor)
            else:
                path, _, name = key.rpartition(":")
                self.put(path, name, tensor)
        self.steps, self.phase, self.prepared = state["steps"], state["phase"], state["prepared"]
        self.draws.seed, self.draws.number = state["draws"]["seed"], state["draws"]["number"]
        self.memory = {key: tensor.clone() for key, tensor in state["memory"].items()}
        self._masks.heed()

    def detach(self) -> None:
        self._masks.drop()
        super().detach()
