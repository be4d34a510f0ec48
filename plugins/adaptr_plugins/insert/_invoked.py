"""From where on texts are invoked, with and without a cache that is gone on with: Activated LoRA's rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from adaptr.host.context import Context


class Before(NamedTuple):
    """What a cache is left: the column at which each row was invoked, -1 for none, and the ids before column `end`."""

    since: Tensor
    tail: Tensor
    end: int | Tensor


def invoked(context: Context, invocation: Sequence[int]) -> Tensor:
    """(batch, tokens) of bool: which columns stand at or behind the start of the last invocation of their text.

    Texts that are packed into a row have each their own. One that is generated counts where there is none before.
    Raises `Unsupported` where a cache was filled otherwise than the whole text would have it.
    """
    import torch

    name = f"alora:{','.join(map(str, invocation))}"
    ids, (batch, length) = context.ids.where(context.real(), -1), context.shape
    behind = torch.as_tensor(context.offset, device=ids.device) != 0
    before = _for(context.carried.get(name), batch, context.offset)
    text = ((context.positions() == 0) & context.real()).long().cumsum(1)
    whole = starts(ids, invocation) & (text == _shifted(text, len(invocation) - 1))
    columns = torch.arange(length, device=ids.device)
    # those that a generation began with stand above those that it made
    key = torch.where(whole, columns + length * (context.prompted() | behind), -1)
    last = key.new_full((batch, length + 1), -1).scatter_reduce(1, text, key, "amax").gather(1, text)
    on = (last >= 0) & (columns >= last % length)
    since = torch.where(on, last % length + context.offset, -1)
    if not torch.compiler.is_compiling() and bool(behind):
        _require_known(before, ids, whole, invocation)
    if before is not None:
        goes_on = (before.since >= 0)[:, None] & (text == 0)
        on, since = on | goes_on, torch.where(goes_on, before.since[:, None], since)
        ids = torch.cat([before.tail, ids], 1)
    tail = ids[:, max(ids.shape[1] - len(invocation) + 1, 0) :]
    context.leave(name, Before(since[:, -1], tail, context.offset + length))
    return on


def starts(ids: Tensor, invocation: Sequence[int]) -> Tensor:
    """(batch, tokens) of bool: the columns at which the whole invocation begins."""
    import torch

    found = torch.ones_like(ids, dtype=torch.bool)
    for n, token in enumerate(invocation):
        found &= torch.nn.functional.pad(ids[:, n:], (0, min(n, ids.shape[1])), value=-1) == token
    return found


def _shifted(text: Tensor, by: int) -> Tensor:
    """The number of the text `by` columns on, -1 behind the end."""
    import torch

    return torch.nn.functional.pad(text[:, by:], (0, min(by, text.shape[1])), value=-1)


def _for(before: Before | None, batch: int, offset: int | Tensor) -> Before | None:
    """What a cache was left, for this batch: one row may be gone on with as several, and columns be cut off."""
    import torch

    if before is None:
        return None
    if len(before.since) not in {1, batch}:
        raise Unsupported(
            f"a cache that was filled with {len(before.since)} texts is gone on with as {batch}",
            hint="give the rows whose cache it is, or the whole texts",
        )
    since = before.since.where(before.since < offset, -1).expand(batch)
    tail = torch.where(torch.as_tensor(before.end == offset, device=since.device), before.tail, -1)
    return Before(since, tail.expand(batch, -1), offset)


def _require_known(before: Before | None, ids: Tensor, whole: Tensor, invocation: Sequence[int]) -> None:
    """Raises `Unsupported` where the whole text would have been computed otherwise than what the cache holds."""
    import torch

    way = "give the text in one call, or from its last invocation on behind a cache that ends before it"
    if before is None:
        if not bool(whole.any(1).all()):
            raise Unsupported(
                "a cache was filled without the adapter, and the tokens behind it don't invoke it, so whether the text "
                "does is not known",
                hint=way,
            )
        return
    joined = torch.cat([before.tail, ids], 1)
    found, on = starts(joined, invocation), before.since >= 0
    pieces = found[:, : before.tail.shape[1]].any(1)
    if bool((pieces & ~on).any()):
        raise Unsupported("an invocation came in pieces: what its first tokens made is in the cache", hint=way)
    if ids.shape[1] > 1 and bool((found.any(1) & on).any()):
        raise Unsupported("a text is invoked anew behind an invocation that is in the cache", hint=way)
