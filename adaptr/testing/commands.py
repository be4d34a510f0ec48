"""The laws of commands: help that costs nothing, one object of JSON, errors that are typed and leave nothing behind."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import click

from adaptr.cli import listing
from adaptr.cli.options import Command
from adaptr.testing.skipping import skip
from adaptr.testing.terminals import Ran, piped, typed

#: Processor time that the help may take, in seconds.
HELP = 1.0
#: Exit codes of what was refused; see `adaptr --help`.
REFUSED = range(2, 9)
#: Options that name an output.
OUTPUTS = frozenset({"--out", "--html"})
#: Columns of a terminal that holds nothing.
NARROW = 24
#: A colour, as terminals are told.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
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
    #: What is typed, or comes through a pipe, once it runs.
    given: ClassVar[str] = ""

    def works(self, folder: Path) -> list[str]:
        """A command line that succeeds. What it reads is made in `folder`, and what it writes goes there."""
        skip(f"no line of `{self.command}` is given that works: give `works`")

    def fails(self, folder: Path) -> list[str]:
        """A command line with bad input."""
        return [*self.works(folder), str(folder / "nothing" / "at" / "all")]

    def run(self, folder: Path, *words: str) -> Ran:
        """What is typed, in a pipe, with a home of its own."""
        return piped(folder, [self.command, *words], self.given)

    @property
    def leaves(self) -> dict[str, Command]:
        """The command, or those that it is made of, by what is typed behind `adaptr`."""
        made = listing.load(self.command)
        parts: dict[str, click.Command] = {self.command: made}
        if isinstance(made, click.Group):
            parts = {f"{self.command} {name}": one for name, one in made.commands.items()}
        assert all(isinstance(part, Command) for part in parts.values()), "wanted what `options.command` makes"
        return {words: part for words, part in parts.items() if isinstance(part, Command)}

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
        assert ran.code in (0, 1), ran.err
        assert isinstance(json.loads(ran.out), dict)

    def test_law_4_when_quiet_it_says_nothing(self, tmp_path: Path) -> None:
        ran = self.run(tmp_path, *self.works(tmp_path), "--quiet")
        assert (ran.out, ran.code in (0, 1)) == ("", True), ran.err

    def test_law_5_bad_input_is_a_typed_error_with_its_exit_code(self, tmp_path: Path) -> None:
        words = self.fails(tmp_path)
        plain, told = self.run(tmp_path, *words), self.run(tmp_path, *words, "--json")
        error = json.loads(told.out)["error"]
        assert error["exit_code"] == told.code == plain.code
        assert plain.code in REFUSED, plain.err
        assert plain.out == ""
        assert plain.err.startswith("error: ")
        assert "Traceback" not in plain.err

    def test_law_6_bad_input_leaves_nothing_half_done(self, tmp_path: Path) -> None:
        words = self.fails(tmp_path)
        before = _everything(tmp_path)
        self.run(tmp_path, *words)
        assert _everything(tmp_path) == before

    def test_law_7_it_has_the_common_options_and_examples_that_parse(self) -> None:
        for words, leaf in self.leaves.items():
            options = {word for param in leaf.params for word in param.opts}
            assert {"--json", "--quiet", "-q", "--verbose", "-v"} <= options
            assert leaf.examples
            start = ["adaptr", *words.split()]
            for example in leaf.examples:
                line = shlex.split(example.partition(" | ")[0].partition(" && ")[0])
                assert line[: len(start)] == start
                if "--file" not in line:  # opened while it is parsed
                    leaf.make_context(self.command, line[len(start) :])

    def test_law_8_what_it_writes_it_replaces_when_asked_alone(self, tmp_path: Path) -> None:
        writing = [
            leaf for leaf in self.leaves.values() if OUTPUTS & {word for param in leaf.params for word in param.opts}
        ]
        if not writing:
            skip(f"`{self.command}` writes no output")
        for leaf in writing:
            assert any("--force" in param.opts for param in leaf.params), leaf.name
        words = self.works(tmp_path)
        assert self.run(tmp_path, *words).code in (0, 1)
        before = _everything(tmp_path)
        assert self.run(tmp_path, *words).code == 2
        assert _everything(tmp_path) == before

    def test_law_9_an_option_that_is_none_is_answered_with_the_near_ones(self, tmp_path: Path) -> None:
        for words, leaf in self.leaves.items():
            for option in {word for param in leaf.params for word in param.opts if word.startswith("--")}:
                ran = piped(tmp_path, [*words.split(), f"{option}x"])
                assert ran.code == 2, option
                assert ran.out == ""
                assert f"'{option}'" in ran.err, ran.err
                assert f"`adaptr {words} --help`" in ran.err
        assert _everything(tmp_path) == {}

    def test_law_10_its_help_is_whole_with_each_example(self, tmp_path: Path) -> None:
        for words, leaf in self.leaves.items():
            ran = piped(tmp_path, [*words.split(), "--help"])
            assert (ran.code, ran.err) == (0, "")
            assert "Examples:" in ran.out
            assert all(example in ran.out for example in leaf.examples)
            assert all(word in ran.out for param in leaf.params for word in param.opts if word.startswith("--"))

    def test_law_11_without_colours_and_on_a_narrow_terminal_it_works_as_well(self, tmp_path: Path) -> None:
        for words in self.leaves:
            assert typed(tmp_path, [*words.split(), "--help"], NARROW).code == 0
        ran = typed(tmp_path, [self.command, *self.works(tmp_path)], NARROW, self.given)
        assert ran.code in (0, 1), ran.out
        assert "Traceback" not in ran.out
        assert not COLOUR.search(ran.out)

    def test_law_12_on_a_terminal_bad_input_is_told_in_lines_without_a_trace(self, tmp_path: Path) -> None:
        words = self.fails(tmp_path)
        ran = typed(tmp_path, [self.command, *words], NARROW, self.given)
        assert ran.code in REFUSED
        assert "error:" in ran.out
        assert "Traceback" not in ran.out
        assert not COLOUR.search(ran.out)


def _everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes; of adaptr's own home the names that the store has."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and ".home" not in file.parts)
    return {
        **{str(file): file.read_bytes() for file in files},
        **dict(_names(folder / ".home" / "store" / "index.json")),
    }


def _names(index: Path) -> Iterator[tuple[str, bytes]]:
    if index.is_file():
        for entry in json.loads(index.read_bytes())["manifests"]:
            name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
            if name:
                yield name, entry["digest"].encode()
