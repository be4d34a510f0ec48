"""Commands of other distributions: listed without being imported, named where they can't be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = '''
"""A command that counts."""
import click
from adaptr.cli import options, show

SUMMARY = "Count what there is."
SECTION = "Look"


@options.command("count", "adaptr count x", summary=SUMMARY)
@click.argument("what")
def command(output, what):
    """What is counted."""
    output.tell({"count": len(what)}, [show.Facts({"count": len(what)})])
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    lines = ["count = theirs.count", "merge = theirs.count", "gone = theirs.gone", "cut = theirs.cut"]
    lines += ["mute = theirs.mute", "late = theirs.late", "odd = theirs.odd:SECTION", "\x1b[31m = theirs.count"]
    folder = tmp_path / "theirs-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text("[adaptr.commands]\n" + "\n".join(lines) + "\n")
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "count.py").write_text(GOOD)
    (package / "cut.py").write_text("SUMMARY = 'Cut off.'\ndef command(:\n")
    (package / "mute.py").write_text("command = None\n")
    (package / "late.py").write_text("SUMMARY = 'Late.'\nSECTION = 'Elsewhere'\nimport nothing_of_that_name\n")
    (package / "odd.py").write_text("SUMMARY = 'Odd.'\nSECTION = 'Look'\n")
    return tmp_path


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "adaptr", *words], capture_output=True, text=True, env=environment)


def lines(site: Path) -> dict[str, str]:
    """The lines of the help by their first word."""
    found = (line.split(None, 1) for line in run(site, "--help").stdout.splitlines() if line.startswith("  "))
    return {words[0]: words[1] for words in found if len(words) > 1}


def test_an_installed_command_stands_in_its_section_and_runs(site: Path) -> None:
    said = run(site, "--help").stdout
    look = said.partition("Look:")[2].partition("\n\n")[0]
    assert "Count what there is." in look
    ran = run(site, "count", "abc", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"count": 3})
    assert run(site, "count", "--help").stdout.split("\n")[2].strip() == "Count what there is."


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("merge", "adaptr has a command of that name"),
        ("gone", "its module can't be found"),
        ("cut", "its source is no Python"),
        ("mute", "it has no line `SUMMARY = ...`"),
        ("\\x1b[31m", "this is no name for a command"),
    ],
)
def test_what_can_not_be_used_is_a_line_that_says_why(site: Path, name: str, fault: str) -> None:
    ran = run(site, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    last = ran.stdout.partition("Installed, and can't be used:")[2]
    (line,) = [line for line in last.splitlines() if line.split()[:1] == [name]]
    assert fault in line
    assert "theirs" in line


def test_a_built_in_is_not_replaced(site: Path) -> None:
    assert "tensor by tensor" in run(site, "merge", "--help").stdout
    assert "Merge adapters into a base checkpoint, tensor by tensor." in run(site, "--help").stdout


@pytest.mark.parametrize(
    ("name", "fault"), [("late", "failed to load: ModuleNotFoundError"), ("odd", "wanted a module")]
)
def test_what_fails_when_it_is_called_is_named_then(site: Path, name: str, fault: str) -> None:
    assert lines(site)[name].startswith(name.capitalize())
    ran = run(site, name, "x", "--json")
    said = json.loads(ran.stdout)["error"]
    assert (ran.returncode, said["type"]) == (2, "UsageError")
    assert f"command `{name}`" in said["message"]
    assert fault in said["message"]


def test_a_section_of_its_own_comes_behind_the_built_in_ones(site: Path) -> None:
    said = run(site, "--help").stdout
    assert said.index("Store:") < said.index("Elsewhere:") < said.index("Installed, and can't be used:")


def test_the_help_imports_no_installed_command(site: Path) -> None:
    code = "import sys; from adaptr.__main__ import main; main(['--help']); sys.exit('theirs' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment).returncode == 0


def test_completion_offers_it_and_survives_what_is_broken(site: Path) -> None:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    more = {"_ADAPTR_COMPLETE": "bash_complete", "COMP_WORDS": "adaptr co", "COMP_CWORD": "1", "PYTHONPATH": path}
    code = "from adaptr.cli.group import cli; cli.main(prog_name='adaptr')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **more})
    assert ran.stdout.split() == ["plain,compose", "plain,convert", "plain,copy", "plain,count"]
