"""Whoever waits at a terminal sees at once what for, and whoever reads a pipe sees nothing of that."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from adaptr.cli.output import Output
from adaptr.cli.progress import bar

#: Each line in a process of its own, which ends where torch would be imported and tells what was on the terminal then.
DRIVER = """
import io, json, os, sys
from adaptr.__main__ import main
from adaptr.cli import listing
class Seen(io.StringIO):
    def isatty(self):
        return True
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            tell(sys.stderr.getvalue())
def tell(seen):
    os.write(1, (json.dumps([line, seen]) + "\\n").encode())
    os._exit(0)
sys.meta_path.insert(0, Stop())
for line in sys.argv[1:]:
    listing.load(line.split()[0])
    if not os.fork():
        sys.stderr = Seen()
        main(line.split())
        tell(None)
    os.wait()
"""
LINES = {
    "merge {base} {lora} -o {out}": "merging",
    "apply {base} {lora} --prompt x": "loading",
    "chat {base} {lora}": "loading",
    "extract {base} {base} --rank 2 -o {out}": "extracting",
    "compose {lora} {lora} -o {out}": "composing",
    "train {base} --data {data} -o {out}": "loading",
    "diff {lora} {lora}": "comparing",
    "resize {lora} --rank 2 -o {out}": "resizing",
    "quantize {lora} --scheme int8 -o {out}": "quantizing",
    "stack {lora} {lora} -o {out}": "stacking",
    "eval {base} {lora} --data {data}": "measuring",
}


def test_what_takes_long_says_what_it_does_before_torch_is_loaded(llama: Path, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    given = {"base": llama, "lora": lora, "out": tmp_path / "out.safetensors", "data": tmp_path / "records.jsonl"}
    lines = {line.format(**given): f"{doing} ..." for line, doing in LINES.items()}
    done = subprocess.run([sys.executable, "-c", DRIVER, *lines], capture_output=True, text=True, check=True)
    found = dict(map(json.loads, done.stdout.splitlines()))
    assert {line: (seen or "nothing").rpartition("\x1b[K")[2] for line, seen in found.items()} == lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In a test's own time: pytest puts its own in place between setting up and calling."""
    monkeypatch.setattr(sys, "stderr", found := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    return found


def test_what_is_being_done_is_gone_when_anything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    output = Output()
    with output.busy("composing"):
        output.warn("that")
        assert terminal.getvalue() == "composing ...\r\x1b[Knote: that\n"
    assert terminal.getvalue().endswith("note: that\n"), "it is taken away once"


@pytest.mark.parametrize("total", [0, 7])
@pytest.mark.parametrize("steps", [True, False])
def test_what_has_no_known_end_is_no_bar(steps: bool, total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with bar(Output(), "pulling", steps) as progress:
        assert terminal.getvalue() == "pulling ..."
        assert progress is not None
        progress(3, total, "layers")
        assert "/?" not in terminal.getvalue()
        assert ("3/7" in terminal.getvalue()) == bool(total)
        assert ("layers 3" in terminal.getvalue()) != bool(total)


def test_in_a_pipe_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", found := io.StringIO())
    with Output().busy("composing"), bar(Output(), "composing") as progress:
        assert progress is None
    assert found.getvalue() == ""
