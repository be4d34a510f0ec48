"""The table of formats is true: every cell is made again, and none is worse than what docs/formats.md says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from adaptr import foreign
from adaptr.foreign import formats
from adaptr.foreign.formats import OWN
from foreign.test_formats import Point
from foreign.test_laws import Other
from formats_table import families, page, references, samples, table
from formats_table.trial import VERDICTS, Trial, tried

TABLE = table.load()


def keys(found: list[Trial]) -> set[tuple[str, str, str]]:
    return {one.key for one in found}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands and reasons name files as they lie here."""
    monkeypatch.chdir(tmp_path)
    return Path()


def test_no_format_into_another_is_worse_than_the_table_says(here: Path) -> None:
    found = list(table.of_formats(here))
    assert table.worse(found, TABLE) == []
    assert {one.source for one in found} == set(table.readers()), "theirs.MADE has files of new formats"
    assert keys(found) == {key for key in keys(TABLE) if key[2].startswith(f"{table.PLAIN} on ")}


def test_no_method_into_a_format_is_worse_than_the_table_says(here: Path) -> None:
    found = list(table.of_methods(here))
    assert table.worse(found, TABLE) == []
    assert keys(found) == {
        key for key in keys(TABLE) if not key[2].startswith(f"{table.PLAIN} on ") and "/" not in key[2]
    }


def test_no_genuine_file_is_worse_than_the_table_says(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into its own format and adaptr's; `make formats` tries the others."""
    if shared != references.SHARED:
        pytest.skip(f"the table looks for genuine files in {references.SHARED}")
    monkeypatch.chdir(references.ROOT)
    found = list(table.of_references(own_only=True))
    assert len(found) > 100
    assert table.worse(found, TABLE) == []


# ---------------------------------------------------------------- the table itself


def test_the_table_has_every_format_and_no_mistake_of_ours() -> None:
    assert {one.to for one in TABLE} >= set(table.targets()), "run `make formats`"
    assert [one for one in TABLE if one.verdict == "crash"] == []
    assert [one.key for one in TABLE if one.verdict in ("refused", "lossy") and not one.why] == []
    assert sorted(TABLE, key=lambda one: one.key) == TABLE


def test_every_format_has_its_families_and_every_family_its_format_or_the_reason() -> None:
    assert {one.form for one in families.FAMILIES if one.form} == set(table.readers()) - {OWN}
    assert [one.called for one in families.FAMILIES if not (one.form or one.but)] == []
    assert families.proof("pyreft") == "proven by the tool"
    assert families.proof("nemo") == "unproven"


def test_the_table_has_nothing_of_the_machine_that_made_it() -> None:
    text = table.FILE.read_text("utf-8")
    assert re.findall(r"(?<![\w.`])/(?:tmp|home|root|work|usr|var)\b", text) == []
    assert str(Path.cwd()) not in text


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    table.dump(reversed(TABLE), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == table.FILE.read_bytes()


# ---------------------------------------------------------------- what worse is


def test_each_verdict_is_worse_than_the_one_before() -> None:
    line = [Trial("a", "b", "s", verdict, "", 1e-7 if verdict == "error" else 0.0) for verdict in VERDICTS]
    for better, poorer in pairwise(line):
        assert table.worse([poorer], [better]) != []
        assert table.worse([better], [poorer]) == []


@pytest.mark.parametrize(("now", "worse"), [(5e-8, False), (1e-7, False), (1.9e-7, False), (1e-6, True)])
def test_an_error_is_worse_when_it_is_larger_than_rounding_elsewhere_makes_it(now: float, worse: bool) -> None:
    was = Trial("a", "b", "s", "error", "", 1e-7)
    assert bool(table.worse([dataclasses.replace(was, error=now)], [was])) == worse


def test_what_the_table_does_not_have_is_said() -> None:
    assert "run `make formats`" in table.worse([Trial("a", "b", "s", "exact", "")], [])[0]


# ---------------------------------------------------------------- what a trial finds


class Keeps(Other):
    """Says too where it wrote."""

    def save(self, adapter: Any, out: Path, force: bool) -> foreign.Written:
        return dataclasses.replace(super().save(adapter, out, force), file=out / "other.safetensors")


class Rounds(Keeps):
    def save(self, adapter: Any, out: Path, force: bool) -> foreign.Written:
        tensors = {key: tensor.half().float() for key, tensor in adapter.tensors.items()}
        return super().save(adapter.replace(tensors=tensors), out, force)


class Fails(Other):
    def save(self, adapter: Any, out: Path, force: bool) -> foreign.Written:
        raise RuntimeError("a mistake")


class Drops(Keeps):
    """Leaves a layer out in silence."""

    def save(self, adapter: Any, out: Path, force: bool) -> foreign.Written:
        gone = next(iter(adapter.targets))
        targets = {path: target for path, target in adapter.targets.items() if path != gone}
        tensors = {key: tensor for key, tensor in adapter.tensors.items() if not key.startswith(f"{gone}:")}
        return super().save(adapter.replace(targets=targets, tensors=tensors), out, force)


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.formats" else {})
    foreign.get.cache_clear()
    yield found
    foreign.get.cache_clear()


@pytest.mark.parametrize(
    ("form", "verdict", "least", "most"),
    [(Keeps, "round trip", 0, 0), (Rounds, "error", 1e-5, 1e-2), (Drops, "error", 1, 1), (Fails, "crash", 0, 0)],
)
def test_a_format_that_is_wrong_shows(
    form: type[foreign.Format], verdict: str, least: float, most: float, points: dict[str, Any], here: Path
) -> None:
    points["other"] = Point(form)
    sample = samples.own(here, "llama", "lora")
    assert sample is not None
    (here / "out").mkdir()
    found = tried(sample, "other", here / "out")
    assert found.verdict == verdict, found
    assert least <= found.error <= most
    assert found.command == "adaptr convert adaptr-lora-llama.safetensors --to other --base llama -o out"


def test_a_new_format_has_a_row_and_a_column_before_it_is_tried(points: dict[str, Any]) -> None:
    points["other"] = Point(Other)
    assert "other" in table.readers()
    assert f"| from \\ to | {' | '.join([OWN, *(f.name for f in formats.formats() if f.writes)])} |" in page.page()
    assert "\n| other | ?" in page.page()
