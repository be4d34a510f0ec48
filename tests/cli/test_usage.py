"""What is said to people who mean something else: the command's own words, and names of what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from adaptr.cli import listing, usage
from adaptr.errors import UsageError, phrases


@pytest.mark.parametrize("theirs", sorted(usage.COMMANDS))
def test_the_words_of_other_tools_name_a_command(theirs: str, adaptr: Callable) -> None:
    own = usage.COMMANDS[theirs]
    assert theirs not in listing.names()
    ran = adaptr(theirs)
    assert ran.code == 2
    assert own not in listing.names() or f"`{own}`" in ran.err


def test_the_words_of_options_are_none_that_all_commands_have() -> None:
    options = {word for name in listing.names() for param in listing.load(name).params for word in param.opts}
    named = {word for own in usage.OPTIONS.values() for word in own}
    assert named <= options | {"--device"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("merge base a -o out --output out", "here it is '--out'"),
        ("apply --base base a -p hi", "it is an argument, without a name: adaptr apply [OPTIONS] BASE [ADAPTER"),
        ("merge base a -o out --weights 0.5", "as in `style.safetensors=0.7`"),
        ("train base --lr 1e-3", "here it is '--rate'"),
        ("extract base tuned --rnak 3", "did you mean '--rank'"),
        ("-v merge", "it goes behind the command"),
        ("help merge", "`adaptr COMMAND --help`"),
    ],
)
def test_a_line_of_another_habit_is_answered_with_the_own_words(line: str, said: str, adaptr: Callable) -> None:
    ran = adaptr(*line.split())
    assert ran.code == 2
    assert said in ran.err, ran.err


def test_verbose_shows_no_trace_of_a_line_that_is_wrong(adaptr: Callable) -> None:
    assert "Traceback" not in adaptr("merge", "-v").err


@pytest.mark.parametrize("command", ["merge", "apply"])
def test_an_adapter_before_its_base_is_told_the_order(command: str, llama: Path, lora: Path, adaptr: Callable) -> None:
    more = ["-o", "out"] if command == "merge" else ["-p", "w1"]
    ran = adaptr(command, lora, llama, *more)
    assert ran.code == 2
    assert f"`adaptr {command} {llama} {lora} ...`" in ran.err


def test_two_adapters_are_no_wrong_order(lora: Path, adaptr: Callable) -> None:
    ran = adaptr("merge", lora, lora, "-o", "out")
    assert ran.code == 3
    assert "wanted a base checkpoint" in ran.err


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("styl.safetensors", "style.safetensors"),
        ("style", "style.safetensors"),
        ("adapter/style.safetensors", "adapters"),
        ("adapters/tune.safetensors", "adapters/tone.safetensors"),
    ],
)
def test_a_path_with_nothing_gets_near_names(
    typed: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adaptr: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapters").mkdir()
    for name in ("style.safetensors", "adapters/tone.safetensors"):
        (tmp_path / name).touch()
    ran = adaptr("inspect", typed)
    assert ran.code == 3
    assert f"did you mean `{near}`?" in ran.err


def test_a_path_like_nothing_has_no_near_name(tmp_path: Path) -> None:
    assert phrases.near(str(tmp_path / "quite" / "another")) == ""
    assert phrases.near("") == ""


def test_a_repository_s_name_is_told_its_scheme(lora: Path, adaptr: Callable) -> None:
    for line in (("merge", "org/name", lora, "-o", "out"), ("inspect", "org/name")):
        assert "`hf://org/name`" in adaptr(*line).err


def test_a_difference_is_the_exit_code_though_nobody_reads_on(loras: list[Path]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "adaptr", "diff", *map(str, loras)]
    with os.fdopen(writing, "w") as nobody:
        ran = subprocess.run(line, stdout=nobody, stderr=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.parametrize("name", ["mine.bin", "mine.pt", "folder/"])
def test_an_adapter_is_not_written_under_the_name_of_something_else(name: str, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the name of a"):
        api.save(lora, f"{tmp_path}/{name}")
    assert not list(tmp_path.iterdir())


def test_the_version_has_a_short_option(adaptr: Callable) -> None:
    assert adaptr("-V") == adaptr("--version")
