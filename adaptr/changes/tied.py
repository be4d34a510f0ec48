"""What happens when one use of a tied tensor changes: both change, or each gets a tensor of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from adaptr.bulk.change import Change, Tied
from adaptr.changes.agreement import agreed, apart, follows, once, require_word, same_value
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.errors import NotPossible, TiedWeights, Unsupported
from adaptr.models import tying
from adaptr.models.ties import Tie, Ties

Changes = dict[str, Change]


def settle(ties: Ties, changes: Changes, tied: Tied) -> tuple[Changes, bool]:
    """(changes of stored tensors, whether the output is no longer tied) from changes of uses.

    Raises `TiedWeights` where one use changes and nobody said what becomes of the others, `Unsupported` where the model
    can't be untied, `NotPossible` where the uses would change in two ways and are to stay one.
    """
    require_word(tied)
    if not any(ties.use(change.name, change.stored) for change in changes.values()):
        _refuse_unknown(ties, changes, tied)
        return changes, False
    met = [(tie, mine) for tie in ties.all if (mine := {use: changes.pop(use) for use in tie.uses if use in changes})]
    unsettled = [
        (tie, mine) for tie, mine in met if not tie.bias and (tied == "untie" or not agreed(len(tie.uses), mine))
    ]
    if unsettled and tied is None:
        raise _unsettled(*unsettled[0])
    if unsettled and tied == "untie":
        return {**changes, **_apart(ties, met)}, True
    for tie, mine in met:
        changes |= _everywhere(tie, mine)
    return changes, False


def contradicted(checkpoint: Checkpoint, changes: Mapping[str, Change]) -> list[Tie]:
    """Ties of the configuration whose tensors will differ in the output. Reads those that are stored apart."""
    found: list[Tie] = []
    if checkpoint.config.get(tying.FLAG) is False:
        return found
    for tie in Ties(Names(checkpoint)).apart:
        mine = {stored.name: changes[stored.name] for stored in tie.stored if stored.name in changes}
        if not tie.equal and (len(mine) < len(tie.stored) or not same_value(mine)):
            found.append(tie)
    return found


def _refuse_unknown(ties: Ties, changes: Changes, tied: Tied) -> None:
    """Raises `TiedWeights` for a table or head of a model that says it ties and that transformers does not know."""
    config = ties.checkpoint.config
    if tied == "both" or config.get(tying.FLAG) is not True:
        return
    for change in changes.values():
        long = change.stored is not None and change.stored.entry.shape[:1] == (config.get("vocab_size"),)
        if long and not tying.known(config):  # asked last, as it imports transformers
            raise TiedWeights(
                f"`{change.name}` may be tied to another tensor: the configuration ties embeddings, and "
                "transformers, which would know which, does not know this model",
                hint="Say `--tied both` if it is the only one of them, or keep the adapter attached",
            )


def _everywhere(tie: Tie, mine: Mapping[str, Change]) -> Changes:
    """Every stored tensor of the tie with the changes of all uses."""
    mine = {use: change for use, change in mine.items() if not change.ground} or mine
    whole = once(mine)
    if whole is None and any(change.value is not None for change in mine.values()):
        names = " and ".join(f"`{use}`" for use in mine) if len(mine) > 1 else f"`{next(iter(mine))}`"
        raise NotPossible(f"{names} are one tensor, and both are changed", hint="say `--tied untie`")
    if whole is not None:
        return {stored.name: replace(whole, name=stored.name, stored=stored) for stored in tie.stored}
    first = next(iter(mine.values()))
    (span,) = first.spans
    layers = tuple(layer for change in mine.values() for layer in change.spans[0].layers)
    spans = (replace(span, layers=layers),)
    return {stored.name: Change(stored.name, stored, first.what, spans) for stored in tie.stored}


def _apart(ties: Ties, met: list[tuple[Tie, dict[str, Change]]]) -> Changes:
    """Every use with a tensor of its own, those of ties that nobody touches too: the configuration unties them all."""
    _require_separable(ties, met[0][0])
    mine = {use: change for tie, changes in met for use, change in _to_all(tie, changes).items()}
    found: Changes = {}
    for tie in ties.all:
        made = {use: _alone(ties, tie, use, mine.get(use)) for use in tie.uses}
        _require_one_size(tie, made)
        found |= {change.name: change for change in made.values() if change is not None}
    return found


def _to_all(tie: Tie, mine: Mapping[str, Change]) -> Mapping[str, Change]:
    """The changes of a tie's uses; of a bias those of all are the same, as some readers keep one of the two names."""
    if not tie.bias:
        return apart(tie.uses, mine, _following)
    (change, *_) = _everywhere(tie, mine).values()
    return dict.fromkeys(tie.uses, change)


def _following(change: Change) -> Change:
    spans = (replace(span, layers=tuple(filter(follows, span.layers))) for span in change.spans)
    return replace(change, spans=tuple(spans))


def _alone(ties: Ties, tie: Tie, use: str, change: Change | None) -> Change | None:
    """What becomes of one use: its own tensor as it is changed, or a new one, a copy if nothing changes it."""
    stored = tie.uses[use]
    name = stored.name if use in tie.own else ties.file_name(use)
    if change is not None:
        return replace(change, name=name, stored=stored)
    return None if use in tie.own else Change(name, stored, "copy")


def _require_one_size(tie: Tie, made: Mapping[str, Change | None]) -> None:
    """Raises `NotPossible` if a table grows and a use that stays the old one would not."""
    sizes = {use: tie.uses[use].entry.shape for use in tie.uses}
    sizes |= {use: tuple(c.value.shape) for use, c in made.items() if c is not None and c.value is not None}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"`{use}` {size}" for use, size in sizes.items())
        raise NotPossible(
            f"untied they would have different sizes, which no model has: {told}", hint="say `--tied both`"
        )


def _require_separable(ties: Ties, tie: Tie) -> None:
    if not tying.separable(ties.checkpoint.config):
        architecture = (ties.checkpoint.config.get("architectures") or ["model of an unknown class"])[0]
        raise Unsupported(
            f"`{tie.stored[0].name}` can't be untied: a {architecture} has no place for tensors of their own, "
            "or computes otherwise with them",
            hint="say `--tied both`, or keep the adapter attached",
        )


def _unsettled(tie: Tie, mine: Mapping[str, Change]) -> TiedWeights:
    use = next(iter(mine))
    others = " and ".join(f"`{other}`" for other in tie.uses if other != use)
    state = "" if len(tie.own) < 2 else ", though they are stored apart"
    return TiedWeights(
        f"`{use}` is tied to {others}{state}: the model uses one tensor twice, an attached adapter acts on one use, "
        "and merging would change both",
        hint="Say `--tied both` to change both, or `--tied untie` to give each use a tensor of its own",
    )
