"""The root of all errors: what they have to say, put into one sentence."""

from __future__ import annotations

from typing import Any

from adaptr.errors.called import called
from adaptr.errors.text import printable


class AdaptrError(Exception):
    """Root of all errors that adaptr raises on purpose.

    `what` was wrong, what was found (`got`) and wanted (`want`), and the way on (`hint`): a sentence for Python, lines
    on a terminal, fields in JSON. Messages quote files, so what a terminal would obey, and what can't be printed at
    all, is escaped; places of the store are called as they were given.
    """

    exit_code = 1

    def __init__(self, what: str = "", *, got: object = None, want: str = "", hint: str = "") -> None:
        found = "" if got is None else f" is {got}"
        self._said = {
            "what": what,
            "got": "" if got is None else str(got),
            "want": want,
            "hint": hint,
        }
        self._fact = f"{what}{found}{want and f', wanted {want}'}"
        super().__init__(f"{self._fact}{hint and f'; {hint}'}")

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, whatever its class is made from: errors cross processes."""
        return _again, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        return _clean(super().__str__())

    @property
    def fact(self) -> str:
        """The sentence without the way on."""
        return _clean(self._fact)

    @property
    def hint(self) -> str:
        """The way on, "" where the sentence says it or there is none."""
        return _clean(self._said["hint"])

    @property
    def parts(self) -> dict[str, str]:
        """What was said apart: `what`, `got`, `want`, `hint`; {} for one sentence."""
        found = {name: _clean(text) for name, text in self._said.items() if text}
        return found if found.keys() != {"what"} else {}


def _again(kind: type[AdaptrError], args: tuple[object, ...]) -> AdaptrError:
    return kind.__new__(kind, *args)


def _clean(text: str) -> str:
    return printable(called(text))
