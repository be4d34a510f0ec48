"""The laws of commands: help that costs nothing, one object of JSON, errors that are typed and leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import click

from adaptr.cli import listing
from adaptr.cli.options import Command

#: Processor time that the help may take, in seconds.
HELP = 1.0
#: Exit codes of what was refused; see `adaptr --help`.
REFUSED = range(2, 9)
_DRIVER = """
import contextlib, io, json, sys, time
from adaptr.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    try: code = main(sys.argv[1:])
    except SystemExit as ended: code = ended.code
heavy = [n for n in ("torch", "numpy", "transformers", "rich", "httpx") if n in sys.modules]
print(json.dumps([code, out.getvalue(), heavy, time.process_time()]))
"""


class CommandLaws:
    """One test a law. Set `command`, and say what can be typed: `works` and `fails` give words behind its name."""

    command: ClassVar[str]

    def works(self, folder: Path) -> list[str]:
        """A command line that succeeds. What it reads is made in `folder`, and what it writes goes there."""
        raise NotImplementedError

    def fails(self, folder: Path) -> list[str]:
        """A command line with bad input."""
        return [*self.works(folder), str(folder / "nothing" / "at" / "all")]

    def run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """The command as people run it, with a home of its own."""
        environment = {**os.environ, "ADAPTR_HOME": str(folder / ".home"), "NO_COLOR": "1"}
        line = [sys.executable, "-m", "adaptr", self.command, *words]
        return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder)

    @property
    def leaves(self) -> list[Command]:
        """The command, or those that it is made of."""
        made = listing.load(self.command)
        parts = list(made.commands.values()) if isinstance(made, click.Group) else [made]
        assert all(isinstance(part, Command) for part in parts), "wanted what `adaptr.cli.options.command` makes"
        return [part for part in parts if isinstance(part, Command)]

    # ------------------------------------------------------------ laws

    def test_law_1_the_help_of_the_group_names_it_by_its_summary(self) -> None:
        listed = {one.name: one for commands in listing.sections().values() for one in commands}
        assert self.command in listing.names()
        assert listed[self.command].section != listing.UNUSABLE, listed[self.command].summary
        assert (listing.load(self.command).help or "").split("\n")[0] == listed[self.command].summary
        assert listing.load(self.command).name == self.command

    def test_law_2_its_help_is_there_in_no_time_and_without_torch(self) -> None:
        line = [sys.executable, "-c", _DRIVER, self.command, "--help"]
        code, text, heavy, seconds = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
        assert (code, heavy) == (0, [])
        assert text.startswith("Usage:")
        assert seconds < HELP

    def test_law_3_its_json_is_one_object_and_nothing_else(self, tmp_path: Path) -> None:
        ran = self.run(tmp_path, *self.works(tmp_path), "--json")
        assert ran.returncode in (0, 1), ran.stderr
        assert isinstance(json.loads(ran.stdout), dict)

    def test_law_4_when_quiet_it_says_nothing(self, tmp_path: Path) -> None:
        ran = self.run(tmp_path, *self.works(tmp_path), "--quiet")
        assert (ran.stdout, ran.returncode in (0, 1)) == ("", True), ran.stderr

    def test_law_5_bad_input_is_a_typed_error_with_its_exit_code(self, tmp_path: Path) -> None:
        words = self.fails(tmp_path)
        plain, told = self.run(tmp_path, *words), self.run(tmp_path, *words, "--json")
        error = json.loads(told.stdout)["error"]
        assert error["exit_code"] == told.returncode == plain.returncode
        assert plain.returncode in REFUSED, plain.stderr
        assert plain.stdout == ""
        assert plain.stderr.startswith("error: ")
        assert "Traceback" not in plain.stderr

    def test_law_6_bad_input_leaves_nothing_half_done(self, tmp_path: Path) -> None:
        words = self.fails(tmp_path)
        before = _everything(tmp_path)
        self.run(tmp_path, *words)
        assert _everything(tmp_path) == before

    def test_law_7_it_has_the_common_options_and_examples_that_parse(self) -> None:
        import shlex

        for leaf in self.leaves:
            options = {word for param in leaf.params for word in param.opts}
            assert {"--json", "--quiet", "-q", "--verbose", "-v"} <= options
            assert leaf.examples
            for example in leaf.examples:
                words = shlex.split(example.partition(" | ")[0])
                start = ["adaptr", self.command] if leaf.name == self.command else ["adaptr", self.command, leaf.name]
                assert words[: len(start)] == start
                leaf.make_context(self.command, words[len(start) :])

    def test_law_8_what_it_writes_it_replaces_when_asked_alone(self, tmp_path: Path) -> None:
        writing = [leaf for leaf in self.leaves if any("--out" in param.opts for param in leaf.params)]
        if not writing:
            import pytest

            pytest.skip(f"`{self.command}` writes no output")
        for leaf in writing:
            assert any("--force" in param.opts for param in leaf.params), leaf.name
        words = self.works(tmp_path)
        assert self.run(tmp_path, *words).returncode == 0
        before = _everything(tmp_path)
        assert self.run(tmp_path, *words).returncode == 2
        assert _everything(tmp_path) == before


def _everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes; adaptr's own home is not part of what is looked at."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and ".home" not in file.parts)
    return {str(file): file.read_bytes() for file in files}
