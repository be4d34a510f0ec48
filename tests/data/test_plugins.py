"""Formats and tasks of other packages are found by their entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adaptr import tasks
from adaptr.data import read
from adaptr.data.format import DataFormat, Rows
from adaptr.data.source import Source
from adaptr.discovery import Sort
from adaptr.tasks.builtin.lm import LanguageModelling


class Lists(DataFormat):
    """Texts behind dashes."""

    name = "lists"
    suffixes = ("lst",)

    def rows(self, source: Source) -> Rows:
        return Rows((n, {"text": line.strip("-\n ")}) for n, line in source.lines())


class Rhyme(LanguageModelling):
    name = "rhyme"


class Point:
    """As installed packages give one."""

    value = "here"

    def __init__(self, what: type) -> None:
        self.what = what

    def load(self) -> type:
        return self.what


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: Mapping[str, Mapping[str, Any]] = {
        "adaptr.data": {"lists": Point(Lists)},
        "adaptr.tasks": {"rhyme": Point(Rhyme)},
    }
    monkeypatch.setattr(Sort, "points", lambda sort: given.get(sort.group, {}))


def test_a_format(tmp_path: Path) -> None:
    (tmp_path / "a.lst").write_text("- one\n- two\n")
    assert [r.values for r in read(tmp_path / "a.lst").records] == [{"text": "one"}, {"text": "two"}]


def test_a_task() -> None:
    assert isinstance(tasks.by_name("rhyme"), Rhyme)
    assert "rhyme" in tasks.names()
