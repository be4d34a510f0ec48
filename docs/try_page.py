"""Run the code blocks of a page as they stand, one after the other, in one empty folder.

    python docs/try_page.py PAGE...

In `sh` blocks every line is a command, in `console` blocks those behind `$ `; what else stands in a console block must
be in what the commands print, where numbers may be others and `...` stands for anything. `python` blocks share one
program. A block with `title="NAME"` is the file of that name. A block behind `<!-- not run: REASON -->` is passed over.
Every other block says what it is (`text`, `json`), and only shows.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: (?P<why>[^>]*) -->\n)?(?P<in> *)```(?P<sort>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=in)```$",
    re.DOTALL | re.MULTILINE,
)
RUNS = ("sh", "console", "python")
#: A command line and everything that it prints, both streams; raises where it fails.
Shell = Callable[[str], str]


@dataclass(frozen=True)
class Block:
    """`why` it is not run, "" if it is; `title`: the file that it is, "" for none."""

    sort: str
    text: str
    title: str = ""
    why: str = ""


def blocks(text: str) -> list[Block]:
    return [
        Block(one["sort"], re.sub(rf"^{one['in']}", "", one["text"], flags=re.M), one["title"] or "", one["why"] or "")
        for one in BLOCK.finditer(text)
    ]


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block with the lines that it is said to print."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    if block.sort == "sh":
        yield from ((line, []) for line in lines if line.strip() and not line.startswith("#"))
        return
    command, printed = "", list[str]()
    for line in [*lines, "$ "]:
        if not line.startswith("$ "):
            printed.append(line)
            continue
        if command:
            yield command, [one for one in printed if one.strip() not in ("", "...")]
        command, printed = line[2:], []


@dataclass
class Session:
    """A page being run in the current folder."""

    shell: Shell
    compare: bool = True
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})

    def run(self, block: Block) -> None:
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.sort == "python":
            exec(compile(block.text, "<page>", "exec"), self.names)
        elif block.sort in ("sh", "console"):
            for command, printed in commands(block):
                said = self.shell(command)
                if self.compare and (lost := [line for line in printed if shape(line) not in shape(said)]):
                    raise AssertionError(f"`{command}` does not print {lost[0]!r}, but:\n{said}")


def shape(text: str) -> str:
    """A text without what differs from run to run: numbers, digests, widths of columns and ends of lines."""
    text = re.sub(r"\b[0-9a-f]{12,}\b", "#", text)
    return " ".join(re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", text).split())


def in_bash(command: str) -> str:
    """As it is typed. What it exports or activates is gone after it."""
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise AssertionError(f"`{command}` ends with {done.returncode}:\n{done.stdout}")
    return done.stdout


def main(pages: list[str]) -> int:
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            for given in (".venv", ".cache", "examples"):  # what a clone has, and `make demo` leaves
                (Path(folder) / given).symlink_to(ROOT / given)
            os.chdir(folder)
            os.environ["ADAPTR_HOME"] = str(Path(folder) / "home")
            session = Session(_told)
            for block in blocks(text):
                if not block.why:
                    session.run(block)
            os.chdir(ROOT)
    return 0


def _told(command: str) -> str:
    print(f"$ {command}", flush=True)
    said = in_bash(command)
    print(said, flush=True)
    return said


def typed(command: str) -> list[str] | None:
    """The words behind `adaptr` of a command that is nothing else, no pipe and no other program."""
    words = list(itertools.takewhile(lambda word: not word.startswith("#"), shlex.split(command)))
    if words[:1] != ["adaptr"] or set(words) & {"|", "||", ">", "<", "&", "&&", ";"}:
        return None
    return [word.replace("$PWD", os.getcwd()) for word in words[1:]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
