"""The plugins that CONTRIBUTING shows are complete: each is one file, keeps all laws of its sort, and is told of in the
help and in the documentation with no other file changed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import one_file
from one_file import SORTS

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=SORTS)
def sort(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def laws(sort: str, tmp_path: Path) -> Path:
    return one_file.install(sort, tmp_path)


def test_it_keeps_the_laws_as_it_is_shown(sort: str, laws: Path, tmp_path: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = one_file.run(tmp_path, "-m", "pytest", str(laws), *options)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= SORTS[sort].laws


def test_it_is_one_file(sort: str, laws: Path, tmp_path: Path) -> None:
    assert [file.stem for file in tmp_path.rglob("*.py") if file != laws] == [SORTS[sort].module]


def test_the_help_tells_of_it(sort: str, laws: Path, tmp_path: Path) -> None:
    one = SORTS[sort]
    told, before = (one_file.run(folder, "-m", "adaptr", *one.help) for folder in (tmp_path, tmp_path / "empty"))
    assert (told.returncode, before.returncode) == (0, 0), told.stderr
    assert re.search(rf"\b{one.name}\b", told.stdout)
    assert not re.search(rf"\b{one.name}\b", before.stdout)


def test_the_documentation_of_a_distribution_has_it(sort: str, laws: Path, tmp_path: Path) -> None:
    one = SORTS[sort]
    done = one_file.run(tmp_path, str(ROOT / "docs" / "generate.py"), "--of", f"one-{one.module}")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^## (adaptr )?{one.name}$", done.stdout, re.MULTILINE)
    assert "lora" not in re.findall(r"^## (.*)$", done.stdout, re.MULTILINE)


def test_adaptrs_own_documents_have_no_plugin_in_them(sort: str, laws: Path, tmp_path: Path) -> None:
    done = one_file.run(tmp_path, str(ROOT / "docs" / "generate.py"), "--check")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_distribution_that_gives_nothing_is_refused_by_name(tmp_path: Path) -> None:
    done = one_file.run(tmp_path, str(ROOT / "docs" / "generate.py"), "--of", "nobody")
    assert done.returncode == 1
    assert "`nobody`" in done.stderr


def test_its_docstring_is_what_the_documentation_is_made_from(tmp_path: Path) -> None:
    one_file.install("method", tmp_path)
    done = one_file.run(tmp_path, "-m", "adaptr", "methods", "halves")
    assert all(text in done.stdout for text in ("Halves", "W' = W + s B A / 2", "2601.00001"))
