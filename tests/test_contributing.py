"""The plugins that CONTRIBUTING shows are complete: each is one file, keeps all laws of its sort, and is told of in the
help and in the documentation with no other file changed.

All are on one path: what starts a process of its own starts one for all of them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

import one_file
from one_file import SORTS

ROOT = Path(__file__).parent.parent
GENERATE = str(ROOT / "docs" / "generate.py")
#: `generate.py --of` each name.
OF_EACH = """
import runpy, sys
generate, *names = sys.argv[1:]
sys.path.insert(0, generate.rpartition("/")[0])
main = runpy.run_path(generate)["main"]
for name in names:
    sys.argv[1:] = ["--of", name]
    assert main() == 0
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one-file")
    for sort in SORTS:
        one_file.install(sort, folder)
    return folder


def test_each_keeps_the_laws_as_it_is_shown(installed: Path) -> None:
    options = ["-v", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull, "--rootdir", str(installed)]
    done = one_file.run(installed, "-m", "pytest", str(installed / "tests"), *options)
    assert done.returncode == 0, done.stdout
    passed = Counter(re.findall(r"test_(\w+)\.py::.* PASSED", done.stdout))
    assert {sort: passed[one.module] >= one.laws for sort, one in SORTS.items()} == dict.fromkeys(SORTS, True)


def test_each_is_one_file(installed: Path) -> None:
    found = {file.stem for file in installed.rglob("*.py") if file.parent != installed / "tests"}
    assert found == {one.module for one in SORTS.values()}


@pytest.mark.parametrize("sort", SORTS)
def test_the_help_tells_of_it(sort: str, installed: Path, tmp_path: Path) -> None:
    one = SORTS[sort]
    told, before = (one_file.run(folder, "-m", "adaptr", *one.help) for folder in (installed, tmp_path))
    assert (told.returncode, before.returncode) == (0, 0), told.stderr
    assert re.search(rf"\b{one.name}\b", told.stdout)
    assert not re.search(rf"\b{one.name}\b", before.stdout)


def test_the_documentation_of_a_distribution_has_what_it_gives(installed: Path) -> None:
    names = {f"one-{one.module}": one.name for one in SORTS.values()}
    done = one_file.run(installed, "-c", OF_EACH, GENERATE, *names)
    assert done.returncode == 0, done.stderr
    told = re.split(r"^# (one-\S+)$", done.stdout, flags=re.MULTILINE)[1:]
    assert told[::2] == [*names]
    for distribution, text in zip(told[::2], told[1::2], strict=True):
        assert [name.removeprefix("adaptr ") for name in re.findall(r"^## (.*)$", text, re.MULTILINE)] == [
            names[distribution]
        ]


def test_adaptrs_own_documents_have_no_plugin_in_them(installed: Path) -> None:
    done = one_file.run(installed, GENERATE, "--check")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_distribution_that_gives_nothing_is_refused_by_name(tmp_path: Path) -> None:
    done = one_file.run(tmp_path, GENERATE, "--of", "nobody")
    assert done.returncode == 1
    assert "`nobody`" in done.stderr


def test_its_docstring_is_what_the_documentation_is_made_from(installed: Path) -> None:
    done = one_file.run(installed, "-m", "adaptr", "methods", "halves")
    assert all(text in done.stdout for text in ("Halves", "W' = W + s B A / 2", "2601.00001"))
