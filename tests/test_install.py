"""What people install: extras that exist, are explained and hinted at, and a version that is said in one place."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from adaptr.artifacts.doctor import EXTRAS, Need
from adaptr.version import __version__

ROOT = Path(__file__).resolve().parents[1]
EVERY = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
#: Those that are no extras of their own.
TOGETHER = {"all", "dev", "docs"}


def test_the_doctor_knows_each_extra_and_all_has_them() -> None:
    assert EVERY.keys() - TOGETHER == EXTRAS.keys()
    (every,) = EVERY["all"]
    assert set(re.findall(r"\w+", every)) - {"adaptr"} == EXTRAS.keys()


def test_the_readme_explains_each_extra() -> None:
    told = (ROOT / "README.md").read_text("utf-8").partition("## Install")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == {*EXTRAS, "all"}


def test_hints_name_extras_that_exist() -> None:
    named: dict[str, str] = {}
    for file in [*(ROOT / "adaptr").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        text = file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "extra(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "phrases.extra":
                assert isinstance(node.args[2], ast.Constant)
                named[str(node.args[2].value)] = file.name
        named |= dict.fromkeys(re.findall(r"adaptr\[(\w+)\]", text), file.name)
    assert named.keys() <= EXTRAS.keys(), named


def test_the_changelog_has_this_version() -> None:
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_a_need_is_met_by_the_versions_that_it_asks_for() -> None:
    assert Need("torch", "<3,>=2.6", "2.13.0+cpu").met
    assert not Need("torch", "<3,>=2.6", "3.0").met
    assert not Need("transformers", "<6,>=5", "4.57.1").met
    assert not Need("click", "", "").met
    assert Need("click", "", "8.1").met
    assert Need("peft", ">=0.21", "0.20").words == "peft>=0.21 (it is 0.20)"
