"""Parameters of the base that are trained whole, beside any method: heads, norms, embeddings, or whatever is named."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from adaptr import roles
from adaptr.adapter import REPLACED, Adapter
from adaptr.errors import TargetNotFound, Unsupported, UsageError, phrases

if TYPE_CHECKING:
    from torch import Tensor, nn


def with_whole(model: nn.Module, adapter: Adapter, also: str | Sequence[str], apart: bool = False) -> Adapter:
    """`adapter` with the parameters that `also` names, as they are, to be trained with it.

    A word is a role (`head`, `norm`, `embed`), the path of a module or parameter, a pattern of such paths, or a regular
    expression behind `re:`. Of tied parameters one stands for all, or each for itself if they are to be trained
    `apart`. Raises `TargetNotFound`, `Unsupported` for packed
    ones, and `UsageError` for those that the method trains itself.
    """
    words = [also] if isinstance(also, str) else list(also)
    chosen = {name: p for word in words for name, p in named(model, word, apart)}
    own = {target.path if target.stacked else f"{target.path}.weight" for _, target in adapter.all_targets}
    parts = {target.path for _, target in adapter.all_targets if not (target.is_matrix or target.stacked)}
    for name, parameter in chosen.items():
        if name in own or (name.endswith(".bias") and name.removesuffix(".bias") in parts):
            raise UsageError(
                f"`{name}` would be trained whole and by `{adapter.method}` at once", hint="name it in one"
            )
        if not parameter.is_floating_point() or parameter.element_size() == 1:
            raise Unsupported(
                f"`{name}` is packed ({parameter.dtype}) and can't be trained whole", hint="load it unquantised"
            )
    whole = {f"{name}:{REPLACED}": p.detach().clone() for name, p in chosen.items()}
    return adapter.replace(tensors={**adapter.tensors, **whole})


def named(model: nn.Module, word: str, apart: bool = False) -> Iterator[tuple[str, Tensor]]:
    """The parameters, and statistics of norms, that a word names, by the first of their names, or by those it fits."""
    from adaptr.host import statistics

    every: list[tuple[str, Tensor]]
    every = [(name, p) for name, p in model.named_parameters(remove_duplicate=False) if ".adapters." not in name]
    first: dict[int, str] = {}
    for name, p in every:
        first.setdefault(id(p), name)
    every += statistics.named(model)  # of norms over batches, which a forward in training writes to
    found = [(name, p) for name, p in every if _matches(word, name)]
    if not found:
        there = [role for role in roles.ROLES if any(_matches(role, name) for name, _ in every)]
        names = {*there, *(part for name, _ in every for part in (name, name.rpartition(".")[0]))}
        hint = phrases.meant(word, names) or f"give a role ({', '.join(there)}), a path or a pattern of paths"
        raise TargetNotFound(f"`also`: `{word}` names no parameter of the model", hint=hint)
    yield from ((name if apart else first.get(id(p), name), p) for name, p in found)


def _matches(word: str, name: str) -> bool:
    owner = name.rpartition(".")[0]
    if word in roles.ROLES:
        return roles.has(owner, word)
    if word.startswith("re:"):
        return re.fullmatch(word[3:], name) is not None
    return owner == word or fnmatch.fnmatchcase(name, word)
