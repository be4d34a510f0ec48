"""Rates that tensors of one letter have of their own: LoRA+ (arXiv:2402.12354) gives `B` a multiple of that of `A`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.contract.lifecycle import Group
from adaptr.errors import BadConfig, phrases

if TYPE_CHECKING:
    from adaptr.host import Session


def rated(session: Session, rates: Mapping[str, float]) -> list[Group]:
    """The groups of a session, each split by letters that have a factor in `rates`, beside the factor of the group.

    Raises `BadConfig` for a letter that no trained tensor has.
    """
    letters = {id(p): letter(key) for key, p in session.named().items()}
    for name in rates:
        if name not in letters.values():
            known = sorted(set(letters.values()))
            raise BadConfig(
                f"`rates`: no tensor that learns is called `{name}`", hint=f"there are {phrases.listed(known)}"
            )
    return [one for group in session.groups() for one in _split(group, letters, rates)]


def _split(group: Group, letters: Mapping[int, str], rates: Mapping[str, float]) -> list[Group]:
    parts: dict[float, list[int]] = {}
    for number, p in enumerate(group.params):
        parts.setdefault(rates.get(letters[id(p)], 1.0), []).append(number)
    return [Group([group.params[i] for i in of], group.rate * factor, group.decay) for factor, of in parts.items()]


def letter(key: str) -> str:
    """What the paper calls a tensor: `A` of `model.layers.0.q_proj:A`, and of a part's `...:style.A`."""
    return key.rpartition(":")[2].rpartition(".")[2]
