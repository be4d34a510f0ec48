"""What others wrote reaches the terminal as text: nothing in it is obeyed, and nothing turns a line around."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest

import adaptr
import checkpoints
from adaptr.cli import show
from adaptr.cli.output import Output, Warnings
from adaptr.errors import printable

EVIL = "N\x1b[31mX\x07\u202e\x9b2J\u2066\u200b"
OBEYED = frozenset("\x1b\x07\u202e\x9b\u2066\u200b")


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    adapter = dataclasses.replace(checkpoints.lora_at_q(), name=EVIL, summary="s\x1b]0;t\x07\nforged: line")
    adaptr.save(adapter, tmp_path / "evil.safetensors")
    return tmp_path / "evil.safetensors"


@pytest.mark.parametrize("form", [[], ["--json"], ["-v"]])
@pytest.mark.parametrize("command", ["inspect", "log", "diff"])
def test_no_command_says_what_a_terminal_obeys(
    command: str, form: list[str], evil: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from adaptr.cli import run

    run([command, str(evil), *([str(evil)] if command == "diff" else []), *form])
    out, err = capfd.readouterr()
    assert not OBEYED & set(out + err)
    assert "\nforged: line" not in out
    if "--json" in form:
        assert json.loads(out)


@pytest.mark.parametrize("block", [EVIL, show.Facts({"name": EVIL}, EVIL), show.Table((EVIL,), [(EVIL,)], EVIL)])
def test_blocks_on_a_terminal_and_in_a_pipe(
    block: show.Block, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show.write([block])
    monkeypatch.setenv("NO_COLOR", "1")
    show._rich_writer()(block)
    assert not OBEYED & set("".join(capfd.readouterr()))


def test_errors_and_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.complain(EVIL)
    output.warn(EVIL)
    Warnings(output).handle(logging.makeLogRecord({"msg": "%s", "args": (EVIL,), "levelno": logging.WARNING}))
    err = capfd.readouterr().err
    assert err.count("X") == 3
    assert not OBEYED & set(err)


def test_plain_text_stays_as_it_is() -> None:
    assert printable("naïve 日本語 😀\nsecond 'line'") == "naïve 日本語 😀\nsecond 'line'"
