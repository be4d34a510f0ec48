"""What is installed is read from its lists, as `importlib.metadata` would, without importing anything."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from adaptr.discovery import Sort, installed
from adaptr.errors import UsageError

TEXT = """\
[console_scripts]
x = x:main

[adaptr.methods]
# a comment
one = alpha.beta:Gamma
two=alpha.beta : Delta.inner [extra]

[adaptr.commands]
three = alpha.three
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def distribution(site: Path, name: str, text: str, version: str = "1.0") -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text(text)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_lists_say_what_the_standard_library_says(site: Path) -> None:
    distribution(site, "alpha_beta", TEXT)
    distribution(site, "other", "[adaptr.methods]\nfour = other:Four\n")
    for group in ("adaptr.methods", "adaptr.commands"):
        want = {point.name: point.value for point in metadata.entry_points(group=group)}
        assert {name: point.value for name, point in installed.points(group).items()} == want
    assert set(installed.points("adaptr.methods")) == {"one", "two", "four"}
    assert set(installed.points("console_scripts")) == set()


def test_where_distributions_may_hide_the_standard_library_is_asked(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    with zipfile.ZipFile(site / "packed.zip", "w") as archive:
        archive.writestr("packed-1.0.dist-info/entry_points.txt", "[adaptr.methods]\npacked = packed:One\n")
        archive.writestr("packed-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed\nVersion: 1.0\n")
    assert "packed" not in installed.points("adaptr.methods")
    monkeypatch.setattr(sys, "path", [str(site / "packed.zip"), *sys.path])
    assert installed.points("adaptr.methods")["packed"].value == "packed:One"


def test_of_a_distribution_that_is_there_twice_the_first_counts(
    site: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path_factory.mktemp("later")
    distribution(site, "alpha", "[adaptr.methods]\none = alpha:New\n", "2.0")
    distribution(later, "Alpha", "[adaptr.methods]\none = alpha:Old\n", "1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    assert installed.points("adaptr.methods")["one"] == installed.Point("one", "alpha:New", ("alpha",))


def test_a_name_that_two_distributions_give_is_refused_by_both_names(site: Path) -> None:
    distribution(site, "alpha", "[adaptr.methods]\none = alpha:One\n")
    distribution(site, "beta", "[adaptr.methods]\none = beta:One\n")
    sort = Sort("method", "adaptr_plugins", "adaptr.methods", "the list", within=("*/[!_]*.py",))
    with pytest.raises(UsageError, match="`alpha` and `beta` both give it"):
        sort.found("one")


@pytest.mark.parametrize("value", ["gone:One", "broken:One", "leaves:One", "fine:Absent"])
def test_a_plugin_that_does_not_load_is_named(site: Path, value: str) -> None:
    (site / "broken.py").write_text("1 / 0\n")
    (site / "leaves.py").write_text("raise SystemExit(3)\n")
    (site / "fine.py").write_text("")
    distribution(site, "alpha", f"[adaptr.methods]\none = {value}\n")
    sort = Sort("method", "adaptr_plugins", "adaptr.methods", "the list", within=("*/[!_]*.py",))
    with pytest.raises(UsageError, match=f"method `one`: its plugin `{value}` failed to load"):
        sort.found("one")


def test_a_source_is_found_without_importing_its_package(site: Path) -> None:
    (site / "heavy").mkdir()
    (site / "heavy" / "__init__.py").write_text("raise ImportError('imported')\n")
    (site / "heavy" / "small.py").write_text("SUMMARY = 'x'\n")
    assert installed.source("heavy.small") == "SUMMARY = 'x'\n"
    assert "heavy" not in sys.modules
    assert installed.source("heavy.none") is None
    assert installed.source("nothing.at.all") is None


@pytest.mark.parametrize(("said", "there"), [("1", False), ("0", True), ("", True)])
def test_adaptr_can_run_alone(site: Path, monkeypatch: pytest.MonkeyPatch, said: str, there: bool) -> None:
    distribution(site, "alpha", "[adaptr.methods]\none = alpha:One\n")
    monkeypatch.setenv("ADAPTR_NO_PLUGINS", said)
    assert ("one" in installed.points("adaptr.methods")) == there
    assert any(point.name == "one" for _, point in installed.every()) == there
