"""Whose code failed, where it is not adaptr's: the installed distribution, and where its authors are told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from adaptr.discovery import installed
from adaptr.errors import shown

if TYPE_CHECKING:
    from email.message import Message

#: What the addresses of a project are called where bugs are told, the best first.
_TRACKERS = ("issues", "issuetracker", "bugtracker", "bugs", "tracker", "bugreports", "support")
_PAGES = ("repository", "source", "sourcecode", "code", "github", "homepage", "home", "documentation")


@dataclass(frozen=True)
class Owner:
    """A distribution whose code failed. `gives`: what it adds to adaptr, `command count`; `report`: where to, or ""."""

    distribution: str
    version: str
    gives: str
    report: str

    def __str__(self) -> str:
        return f"{self.release}, which gives {self.gives}"

    @property
    def release(self) -> str:
        """The distribution and its version."""
        return f"`{self.distribution}`{self.version and f' {self.version}'}"

    @property
    def told(self) -> str:
        """Where its authors are told, behind `report it`."""
        return f"at {self.report}" if self.report else f"to the authors of `{self.distribution}`"


def owner(error: BaseException) -> Owner | None:
    """Who owns the last code on the way to an error that is a plugin's, None where none was."""
    way, points = _way(error), list(installed.every())
    by = next((point.by for module in way for _, point in points if _shared(module, point.module)), None)
    if by is None:
        return None
    own = ((module, pair) for module in way for pair in points if pair[1].by == by)
    return described(*max(own, key=lambda one: _near(one[0], one[1][1].module))[1])


def raised_in(error: BaseException) -> str:
    """The module that raised an error, "" where nobody knows."""
    return next(iter(_way(error)), "")


def _way(error: BaseException) -> list[str]:
    """The modules that an error went through, the last first."""
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    return found[::-1]


def _near(module: str, given: str) -> tuple[bool, int]:
    """How near a module is to one that a distribution gives."""
    return module == given, _shared(module, given)


def _shared(one: str, two: str) -> int:
    """How many parts of two dotted names are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.split("."), two.split("."), strict=False)))


def described(group: str, point: installed.Point) -> Owner:
    """Whose an entry point is."""
    by = point.by[0] if point.by else ""
    told = _metadata(by)
    what = re.sub("ies$", "y", group.removeprefix("adaptr.").replace("_", " ")).removesuffix("s")
    gives = f"the {what} `{shown(point.name)}`"
    return Owner(shown(by or point.module), shown(told.get("version", "")), gives, _page(told))


def _metadata(distribution: str) -> Mapping[str, Any]:
    """Its version and addresses, {} where it says nothing that can be read."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        found: Any = metadata(distribution)
    except (PackageNotFoundError, ValueError, OSError):
        return {}
    urls = {re.sub(r"[^a-z]", "", label.lower()): url.strip() for label, url in _addresses(found)}
    return {"version": found.get("Version", ""), "urls": urls}


def _addresses(found: Message) -> Iterator[tuple[str, str]]:
    yield "homepage", found.get("Home-page") or ""
    for line in found.get_all("Project-URL") or ():
        label, _, url = line.partition(",")
        yield label, url


def _page(told: Mapping[str, Any]) -> str:
    """The page that bugs are told at, as far as one is known."""
    urls = told.get("urls", {})
    fit = (urls[name] for name in (*_TRACKERS, *_PAGES) if re.fullmatch(r"https?://\S+", urls.get(name, "")))
    return shown(next(fit, ""), 200)
