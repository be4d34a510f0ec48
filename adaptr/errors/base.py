"""The root of all errors: what they have to say, put into one sentence."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

from adaptr.errors.called import called
from adaptr.errors.spoken import spoken
from adaptr.errors.text import printable


class AdaptrError(Exception):
    """Root of all errors that adaptr raises on purpose.

    `what` was wrong, what was found (`got`) and wanted (`want`), and the way on (`hint`): a sentence for Python, lines
    on a terminal, fields in JSON. Messages quote files, so what a terminal would obey, and what can't be printed at
    all, is escaped; places of the store are called as they were given, and options as whoever called gives them.
    """

    exit_code = 1
    #: What stands between the fact and the way on, in one sentence.
    joint: ClassVar[str] = "; "

    def __init__(self, what: str = "", *, got: object = None, want: str = "", hint: str = "", verb: str = "is") -> None:
        """`verb`: what stands between `what` and `got`."""
        found = "" if got is None else str(got)
        self._said = {"what": what, "got": found, "want": want, "hint": hint}
        self._verb = verb
        super().__init__(self._sentence())

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, whatever its class is made from: errors cross processes."""
        return _again, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        return _clean(self._sentence())

    @property
    def fact(self) -> str:
        """The sentence without the way on."""
        return _clean(self._fact())

    @property
    def hint(self) -> str:
        """The way on, "" where the sentence says it or there is none."""
        return _clean(self._said["hint"])

    @property
    def parts(self) -> dict[str, str]:
        """What was said apart: `what`, `got`, `want`, `hint`; {} for one sentence."""
        found = {name: _clean(text) for name, text in self._said.items() if text}
        return found if found.keys() != {"what"} else {}

    def at(self, *places: object, hint: str = "") -> Self:
        """The same, said of these places (a file, a field of it), with a way on where there is none yet."""
        error = copy.copy(self)
        where = [*(f"`{place}`" for place in places), self._said["what"]]
        error._said = {**self._said, "what": ": ".join(where), "hint": self._said["hint"] or hint}
        error.args = (error._sentence(),)
        return error

    def _fact(self) -> str:
        what, got, want, _ = self._said.values()
        return f"{what}{got and f' {self._verb} {got}'}{want and f', wanted {want}'}"

    def _sentence(self) -> str:
        """A way on that is a sentence of its own stays one."""
        hint = self._said["hint"]
        apart = ". " if hint[:1].isupper() else self.joint
        return f"{self._fact()}{hint and apart + hint}"


def _again(kind: type[AdaptrError], args: tuple[object, ...]) -> AdaptrError:
    return kind.__new__(kind, *args)


def _clean(text: str) -> str:
    return printable(called(spoken(text)))
