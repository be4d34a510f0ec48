"""Every code block of the documentation runs as written: those of a page one after the other, in one folder.

The tiny models of `adaptr.playground`, which the pages make, are made once. Where a page wants the real model of
`make demo`, a tiny one stands in its place, and what is printed is held against the page by `make pages` alone.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import try_page
from adaptr.cli import run
from adaptr.playground import images, language
from try_page import ROOT, Session, blocks, commands

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if any(block.sort in try_page.RUNS for block in blocks(path.read_text("utf-8")))
)
#: Pages that want the real model and take minutes: `make pages` runs them.
REAL = frozenset({"README.md"})
MADE = {"python -m adaptr.playground": language.make, "python -m adaptr.playground images": images.make}


def test_no_command_stands_where_it_is_not_run() -> None:
    """But in pages that are written from the code, and behind a word of why."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text("utf-8")
        shown = [] if "Written by docs/generate.py" in text else blocks(text)
        lines = [line for block in shown if block.sort not in try_page.RUNS for line in block.text.splitlines()]
        assert [line for line in lines if line.startswith(("adaptr ", "$ ", "python ", "pip "))] == [], path


def test_what_a_page_prints_is_held_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = """Text.\n```console\n$ echo 'took 2.5 s'\ntook 17 s\n...\n$ echo \\\n    two\nthree\n```\n"""
    (block,) = blocks(page)
    assert list(commands(block)) == [("echo 'took 2.5 s'", ["took 17 s"]), ("echo two", ["three"])]
    with pytest.raises(AssertionError, match="`echo two` does not print 'three'"):
        Session(try_page.in_bash).run(block)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder that a command of the playground makes."""
    known: dict[str, Path] = {}

    def folder(command: str) -> Path:
        if command not in known:
            known[command] = tmp_path_factory.mktemp("playground")
            MADE[command](known[command])
        return known[command]

    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(
    page: str,
    made: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path.parent / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def shell(command: str) -> str:
        bare = command.partition("  #")[0].strip()
        if bare in MADE:
            shutil.copytree(made(bare), ".", dirs_exist_ok=True)
            return ""
        words = try_page.typed(command)
        if words is None:
            return try_page.in_bash(command)
        capfd.readouterr()
        code, said = run(words), "".join(capfd.readouterr())
        assert code == 0, f"`{command}` ends with {code}:\n{said}"
        return said

    if page in REAL:
        as_a_clone(tmp_path, made("python -m adaptr.playground") / "base")
    session = Session(shell, compare=page not in REAL)
    for block in blocks((ROOT / page).read_text("utf-8")):
        if not block.why:
            session.run(block)


def as_a_clone(folder: Path, base: Path) -> None:
    """What lies in a clone where `make demo` was, with a tiny model for the real one."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(base, folder / ".cache" / "smollm2-135m-instruct")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
