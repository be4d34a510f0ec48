"""The base comes first: what is said where an adapter was given in its place, and the base behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from adaptr.errors import AdaptrError, InputError, UsageError


@contextmanager
def base_first(command: str, base: str, adapters: Sequence[str]) -> Iterator[None]:
    """Raises `UsageError` with the line that was meant, where what is read shows that the two changed places."""
    try:
        yield
    except InputError as error:
        behind = next((one for one in adapters if _quietly(_is_base, one)), None)
        if behind is None or not _quietly(_is_adapter, base):
            raise
        others = [one for one in adapters if one is not behind]
        raise UsageError(
            f"`{base}` is an adapter and `{behind}` a base model, and the base comes first",
            hint=f"say `{' '.join([command, behind, base, *others])} ...`",
        ) from error


def _quietly(is_one: Callable[[str], bool], given: str) -> bool:
    try:
        return is_one(given)
    except (AdaptrError, OSError):
        return False


def _is_base(given: str) -> bool:
    from adaptr.foreign import detect
    from adaptr.sources.resolve import resolve

    here = resolve(given).here
    return here is not None and here.exists() and detect.name_of(here) == detect.BASE


def _is_adapter(given: str) -> bool:
    from adaptr import foreign
    from adaptr.sources.open import adaptr_file
    from adaptr.sources.resolve import resolve

    here = resolve(given).here
    return here is not None and (adaptr_file(here) is not None or foreign.of(here) is not None)
