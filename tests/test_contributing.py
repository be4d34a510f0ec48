"""The method that CONTRIBUTING shows is complete: it is loaded as it stands, and keeps the laws."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from adaptr import plugins
from adaptr.testing import Laws

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")
CODE = re.search(r"## A method in one file.*?```python\n(.*?)```", TEXT, re.DOTALL)
#: In a process of its own, where the example is not.
APART = "test_law_11_importing_it_does_not_import_torch"


@pytest.fixture(autouse=True)
def halves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    assert CODE is not None
    file = tmp_path / "halves.py"
    file.write_text(CODE[1])
    spec = util.spec_from_file_location("halves_of_contributing", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Point:
        value = "halves:Halves"

        def load(self) -> Any:
            return module.Halves

    monkeypatch.setattr("adaptr.discovery._points", lambda group: {"halves": Point()})
    yield
    plugins.method.cache_clear()
    plugins.manager.cache_clear()


class TestHalves(Laws):
    method = "halves"


setattr(TestHalves, APART, None)


def test_its_docstring_is_what_the_documentation_is_made_from() -> None:
    from adaptr.cli.catalogue import card

    found = card("halves")
    assert (found.title, found.formula, found.arxiv) == ("Halves", "W' = W + s B A / 2", "2601.00001")
