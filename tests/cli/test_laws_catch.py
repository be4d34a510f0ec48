"""The laws of commands can fail: each catches a command that is wrong in what it is about."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adaptr.testing import CommandLaws

CODE = """\
import click
{imports}
from adaptr.cli import options
from adaptr.errors import InputError
SUMMARY = "Be wrong."
SECTION = "Look"

@options.command("wrong", "adaptr wrong a", summary=SUMMARY)
@click.argument("what")
@click.option("-o", "--out", default="")
@click.option("--force", is_flag=True)
def command(output, what, out, force):
    \"\"\"WHAT is `good` or bad.\"\"\"
    from pathlib import Path
    if what != "good":
        {fails}
    {works}
"""
RIGHT = {"imports": "", "fails": "raise InputError('`what` is bad')", "works": "output.tell({'what': what}, [what])"}
#: What is wrong in the code, and the law that catches it.
WRONG = {
    "heavy": ({"imports": "import torch"}, "test_law_2_its_help_is_there_in_no_time_and_without_torch"),
    "two objects": (
        {"works": "output.tell({}, []), output.tell({}, [])"}, "test_law_3_its_json_is_one_object_and_nothing_else",
    ),
    "loud": ({"works": "print('done')"}, "test_law_4_when_quiet_it_says_nothing"),
    "untyped": ({"fails": "raise KeyError(what)"}, "test_law_5_bad_input_is_a_typed_error_with_its_exit_code"),
    "half": (
        {"fails": "Path('half').write_text(''); raise InputError('bad')"},
        "test_law_6_bad_input_leaves_nothing_half_done",
    ),
    "replacing": (
        {"works": "Path(out or 'out').write_text('x')"}, "test_law_8_what_it_writes_it_replaces_when_asked_alone",
    ),
    "coloured": (
        {"works": "print('\\x1b[31mred\\x1b[0m')"},
        "test_law_11_without_colours_and_on_a_narrow_terminal_it_works_as_well",
    ),
    "tracing": (
        {"fails": "import traceback; traceback.print_stack(); print('Traceback'); raise InputError('bad')"},
        "test_law_12_on_a_terminal_bad_input_is_told_in_lines_without_a_trace",
    ),
}  # fmt: skip
#: Those that a command which writes nothing of itself keeps.
PLAIN = {law for _, law in WRONG.values()} - {"test_law_8_what_it_writes_it_replaces_when_asked_alone"}


class Of(CommandLaws):
    command = "wrong"

    def works(self, folder: Path) -> list[str]:
        return ["good"]

    def fails(self, folder: Path) -> list[str]:
        return ["bad"]


def install(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, **wrong: str) -> None:
    (folder / f"{name}.py").write_text(CODE.format(**{**RIGHT, **wrong}))
    (folder / f"{name}-1.0.dist-info").mkdir()
    (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[adaptr.commands]\nwrong = {name}\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")


def kept(law: str, folder: Path) -> None:
    test = getattr(Of(), law)
    folder.mkdir()
    test(folder) if "tmp_path" in test.__code__.co_varnames else test()


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_caught(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, law = WRONG[what]
    install(tmp_path, f"wrong_{what.replace(' ', '_')}", monkeypatch, **wrong)
    with pytest.raises((AssertionError, ValueError)):
        kept(law, tmp_path / "here")


@pytest.mark.parametrize("law", sorted(PLAIN))
def test_what_is_right_is_not(law: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, f"right_{sorted(PLAIN).index(law)}", monkeypatch)
    kept(law, tmp_path / "here")
