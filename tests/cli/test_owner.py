"""A failure in an installed plugin is told as that distribution's, with its version and where bugs are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr.cli import listing
from adaptr.discovery.installed import Point
from adaptr.discovery.owner import described

COMMAND = """\
import click
from adaptr.cli import options
SUMMARY = "Fail."
SECTION = "Look"

@options.command("fail", "adaptr fail", summary=SUMMARY)
@click.option("--how", default="crash")
def command(output, how):
    \"\"\"Fails as it is told.\"\"\"
    import sys
    from {name}_deep.inside import crash
    if how == "exit":
        sys.exit(1)
    return "done" if how == "text" else crash()
"""
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{more}"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a distribution on the path, whose command fails in a module beside it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def put(name: str, more: str = "", points: str = "", crash: str = "1 / 0") -> None:
        deep, info = tmp_path / f"{name}_deep", tmp_path / f"{name}-1.2.dist-info"
        deep.mkdir()
        info.mkdir()
        (deep / "__init__.py").write_text("")
        (deep / "fail.py").write_text(COMMAND.format(name=name))
        (deep / "inside.py").write_text(f"def crash():\n    {crash}\n")
        (info / "METADATA").write_text(METADATA.format(name=name, more=more))
        (info / "entry_points.txt").write_text(f"[adaptr.commands]\nfail = {name}_deep.fail\n{points}")

    return put


def test_it_names_the_distribution_its_version_and_its_tracker(install: Callable, adaptr: Callable) -> None:
    install("one", "Project-URL: Homepage, https://one.example\nProject-URL: Bug Tracker, https://one.example/bugs\n")
    ran = adaptr("fail")
    assert ran.code == 70
    assert "bug in `one` 1.2, which gives the command `fail`" in ran.err
    assert "ZeroDivisionError: division by zero" in ran.err
    assert "https://one.example/bugs" in ran.err
    assert "bug in adaptr" not in ran.err
    assert "Traceback" not in ran.err
    loud = adaptr("fail", "-v", "--json")
    assert "Traceback" in loud.err
    assert loud.json["error"]["plugin"] == {
        "distribution": "one",
        "version": "1.2",
        "gives": "the command `fail`",
        "report": "https://one.example/bugs",
    }


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("Project-URL: Homepage, https://two.example\n", "at https://two.example with"),
        ("Home-page: http://two.example\n", "at http://two.example with"),
        ("", "to the authors of `two`"),
        ("Project-URL: Issues, javascript:alert(1)\n", "to the authors of `two`"),
    ],
)
def test_where_it_is_told_comes_from_the_metadata(install: Callable, adaptr: Callable, more: str, says: str) -> None:
    install("two", more)
    assert says in adaptr("fail").err


def test_metadata_that_is_not_there_stops_nothing(install: Callable, adaptr: Callable, tmp_path: Path) -> None:
    install("three")
    (tmp_path / "three-1.2.dist-info" / "METADATA").unlink()
    ran = adaptr("fail")
    assert (ran.code, "bug in `three`" in ran.err) == (70, True)


def test_of_two_gifts_the_one_that_was_called_is_named(install: Callable, adaptr: Callable) -> None:
    install("four", points="[adaptr.methods]\nalso = four_deep.inner:Also\n")
    assert "the command `fail`" in adaptr("fail").err


def test_what_a_plugin_calls_in_adaptr_is_told_as_the_plugins(install: Callable, adaptr: Callable) -> None:
    install("five", crash="from adaptr.errors import shown; shown('x', 'no number')")
    assert "bug in `five` 1.2" in adaptr("fail").err


def test_a_method_that_fails_in_a_command_of_adaptrs_is_its_distributions(
    install: Callable, adaptr: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("six", points="[adaptr.methods]\nalso = six_method:Also\n")
    (tmp_path / "six_method.py").write_text("def notes(output):\n    raise KeyError('inside')\n")
    import six_method  # type: ignore[import-not-found]

    from adaptr.cli.options import command

    monkeypatch.setattr("adaptr.cli.commands.methods.command", command("methods")(six_method.notes))
    assert "bug in `six` 1.2, which gives the method `also`" in adaptr("methods").err


def test_it_ends_as_it_says(install: Callable, adaptr: Callable) -> None:
    """Its exit code is its own, and what its function returns is none."""
    install("seven")
    with pytest.raises(SystemExit) as ended:
        adaptr("fail", "--how", "exit")
    assert ended.value.code == 1
    assert adaptr("fail", "--how", "text").code == 0
    assert "fail" in listing.names()


def test_one_that_can_not_be_imported_is_told_as_its_distributions(
    install: Callable, adaptr: Callable, tmp_path: Path
) -> None:
    install("eight", "Project-URL: Issues, https://eight.example/issues\n")
    with open(tmp_path / "eight_deep" / "fail.py", "a") as file:
        file.write("\n1 / 0\n")
    ran = adaptr("fail")
    assert ran.code == 2
    assert "command `fail`: its plugin `eight_deep.fail` failed to load: ZeroDivisionError" in ran.err
    assert "report it at https://eight.example/issues, or uninstall `eight` 1.2" in ran.err


@pytest.mark.parametrize(
    ("group", "says"),
    [("strategies", "the strategy `x`"), ("peft_types", "the peft type `x`"), ("methods", "the method `x`")],
)
def test_what_is_given_is_called_by_its_sort(group: str, says: str) -> None:
    assert described(f"adaptr.{group}", Point("x", "nine:X", ("nine",))).gives == says
