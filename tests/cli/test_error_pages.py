"""The pages of errors: adaptr's own keep the laws, those of distributions stand beside them, broken ones are named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import errors
from adaptr.cli import error_pages
from adaptr.errors import UsageError
from adaptr.testing import ErrorLaws


def _laws(name: str) -> type[ErrorLaws]:
    class Of(ErrorLaws):
        error = name

        def made(self, text: str) -> errors.AdaptrError:
            return self.kind(text, "why", "what") if self.kind is errors.NotMergeable else super().made(text)

    Of.__name__ = Of.__qualname__ = f"Test{name}"
    return Of


for _name in error_pages.SORT.files():
    globals()[f"Test{_name}"] = _laws(_name)

CODE = """\
from adaptr.errors import AdaptrError, NotPossible

class TooMany(NotPossible):
    \"\"\"More than there may be.

    Say fewer.
    \"\"\"

class Silent(NotPossible):
    pass

class Homeless(AdaptrError):
    \"\"\"Of no family.\"\"\"

class Coded(NotPossible):
    \"\"\"With a code of its own.\"\"\"
    exit_code = 64

class NonFinite(NotPossible):
    \"\"\"As adaptr's own.\"\"\"

something = 3
"""
POINTS = """\
[adaptr.errors]
TooMany = mine:TooMany
Silent = mine:Silent
Homeless = mine:Homeless
Coded = mine:Coded
Other = mine:TooMany
Value = mine:something
Gone = nowhere:Gone
NonFinite = mine:NonFinite
"""
WHY = {
    "Silent": "it has no docstring",
    "Homeless": "it is of no family",
    "Coded": "its exit code is 64; that of a NotPossible is 5",
    "Other": "its class is called `TooMany`",
    "Value": "the plugin gives 3",
    "Gone": "failed to load",
    "NonFinite": "adaptr has an error of that name",
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "mine-1.0.dist-info").mkdir()
    (tmp_path / "mine-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)


@pytest.mark.usefixtures("mine")
def test_one_of_a_distribution_stands_beside_adaptrs_own(adaptr: Callable) -> None:
    listed = {one["name"]: one for one in adaptr("errors", "--json").json["errors"]}
    want = {"exit_code": 5, "meaning": "More than there may be.", "notes": "Say fewer.", "by": "mine"}
    assert want.items() <= listed["TooMany"].items()
    assert listed["TooMany"]["family"] == ["NotPossible", "AdaptrError"]
    assert listed["NonFinite"]["by"] == ""
    assert "Say fewer." in adaptr("errors", "TooMany").out


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(("name", "why"), WHY.items())
def test_what_is_missing_or_broken_is_named_with_the_reason(adaptr: Callable, name: str, why: str) -> None:
    ran = adaptr("errors", "--json")
    assert ran.code == 0
    (one,) = (one for one in ran.json["missing"] if one["name"] == name)
    assert one["by"] == "mine"
    assert why in one["reason"]
    assert f"no page for `{name}` of mine" in adaptr("errors").out


@pytest.mark.usefixtures("mine")
def test_a_page_that_is_broken_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="error `Silent` of `mine` has no page: it has no docstring"):
        error_pages.page("Silent")


def test_an_unknown_name_says_the_near_ones(adaptr: Callable) -> None:
    ran = adaptr("errors", "TargetNotFond")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean `TargetNotFound`" in ran.err


def test_with_v_an_error_says_where_its_page_is(adaptr: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptr.cli.options import command

    class Unheard(errors.NotPossible):
        """Of nobody's pages."""

    for kind, says in ((errors.WrongBase, "page: adaptr explain WrongBase"), (Unheard, "gives none of `Unheard`")):

        def fail(output: object, kind: type[Exception] = kind) -> None:
            raise kind("no")

        monkeypatch.setattr("adaptr.cli.commands.methods.command", command("methods")(fail))
        assert says in adaptr("methods", "-v").err
        assert "page:" not in adaptr("methods").err
        told = adaptr("methods", "--json").json["error"]
        assert told.get("page") == (says.removeprefix("page: ") if kind is errors.WrongBase else None)
