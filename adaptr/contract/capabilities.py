"""What a method can, as a value: the core asks `method.can`, and neither a class, nor a family, nor a name."""

from __future__ import annotations

from dataclasses import dataclass

#: Forms that a change can have as an operator and be written in: factors, all of its numbers, a bias alone.
LOW_RANK, DENSE, BIAS = "low-rank", "dense", "bias"
FORMS = frozenset({LOW_RANK, DENSE, BIAS})
#: What a method can be taken for where none is named (`default_for`): to write a result of a form in, to put several
#: adapters on one another in one file, to be learnt as a gate, to train methods together, to hold keys and values.
STACK, GATE, TOGETHER, CACHE = "stack", "gate", "together", "cache"
USES = frozenset({*FORMS, STACK, GATE, TOGETHER, CACHE})


@dataclass(frozen=True)
class Capabilities:
    """What can be asked of a method without an adapter of it. One that arranges fixed parts can what these can; one
    that is made over adapters that are given says what it does with any.

    What adapters do to a model:
    `adds`: all that it does is to add, whatever the base and the input are.
    `delta`: of that, an operator D to a weight, which `operator` gives; `weighs`: a weight changes, not biases alone.
    `identity`: a fresh adapter leaves the model as it is. `rowwise`, `colwise`: a block of rows, or of columns, of the
    merged weight needs only that block of the base. `inverse`: what it does to a weight can be undone. `portable`: what
    it computes of a weight has the same bits on every machine.

    What it can be computed as: `row`: as a row of a batch among other adapters. `factors`: as s B A of its very
    tensors, where its configuration allows it.

    How it is made: `learns`: it has tensors that train. `schedule`: it does something of its own before, between or
    after steps. `over`: it can be made over adapters that are given, and where it `needs` them it is made of nothing
    else; `parts`: it arranges adapters, each of which does what it does alone; `gates`: it weighs them. `branch`: what
    it adds to an output is known before it is added, for others to combine. `forms`: what an operator may be for
    `written` to make its tensors of it. `averages`: the mean of its tensors is one of what it does. `follows`: what it
    does to a tied weight it does in all of its uses. `tokens`: the axis along which its tensors hold virtual tokens,
    None for none.
    """

    adds: bool
    delta: bool
    weighs: bool
    identity: bool
    rowwise: bool
    colwise: bool
    inverse: bool
    portable: bool
    row: bool
    factors: bool
    learns: bool
    schedule: bool
    over: bool
    needs: bool
    parts: bool
    gates: bool
    branch: bool
    forms: frozenset[str]
    averages: bool
    follows: bool
    tokens: int | None
