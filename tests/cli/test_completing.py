"""What a shell completes, asked as shells ask: by click's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import adaptr
from adaptr.cli import completing
from adaptr.cli.group import cli

Completed = Callable[..., list[str]]


@pytest.fixture
def completed(tmp_path: Path, lora: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: object) -> Completed:
    """Completes a line's last word, in a folder with a file `style.txt` and a store that has `style:1` and `tone:2`."""
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("style:1", "tone:2"):
        adaptr.tag(lora, name)
    (tmp_path / "style.txt").write_text("")

    def ask(*words: str, shell: str = "bash") -> list[str]:
        monkeypatch.setenv("_ADAPTR_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(["adaptr", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)) if shell == "bash" else words[-1])
        with pytest.raises(SystemExit):
            cli.main([], "adaptr")
        said = capfdbinary.readouterr().out.decode()  # type: ignore[attr-defined]
        return [line.partition(",")[2] for line in filter(None, said.splitlines())]

    return ask


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("compose", "a", "b", "--strategy", "task"), ["task-arithmetic"]),
        (("compose", "a", "--strategy", "=", "task"), ["task-arithmetic"]),
        (("methods", "dor"), ["dora"]),
        (("methods", "--family", "tra"), ["transform"]),
        (("train", "base", "--method", "lora-so"), ["lora-soups"]),
        (("plan", "base", "-m", "dor"), ["dora"]),
        (("convert", "a", "--to", "koh"), ["kohya"]),
        (("convert", "a", "--for", "vll"), ["vllm"]),
        (("quantize", "a", "--scheme", "nf"), ["nf4"]),
        (("merge", "base", "a", "--dtype", "b"), ["bf16"]),
        (("explain", "WrongB"), ["WrongBase"]),
    ],
)
def test_names_of_plugins(words: tuple[str, ...], wanted: list[str], completed: Completed) -> None:
    assert completed(*words) == wanted


def test_artifacts_are_completed_by_their_names_and_as_files(completed: Completed) -> None:
    for command in ("inspect", "log", "push", "diff", "apply base", "compose"):
        assert completed(*command.split(), "st") == ["style:1", "style.txt"], command
    assert completed("rm", "st") == ["style:1"]
    assert completed("inspect", "x") == ["x"], "the shell's own, of files"
    assert completed("pull", "oc") == ["oci://"]


def test_bash_breaks_words_and_gets_what_is_behind(completed: Completed) -> None:
    assert completed("log", "tone", ":") == ["2"]
    assert completed("log", "tone", ":", "2") == ["2"]
    assert completed("compose", "a", "=", "0.5", "tone", ":") == ["2"]


@pytest.mark.parametrize("shell", [completing.Zsh, completing.Fish])
def test_other_shells_get_a_word_with_its_option(shell: type[ShellComplete], completed: Completed) -> None:
    def found(*words: str) -> list[str]:
        asked = shell(cli, {}, "adaptr", "_ADAPTR_COMPLETE")
        return [one.value for one in asked.get_completions([*words[:-1]], words[-1])]

    assert found("compose", "a", "--strategy=tie") == ["--strategy=ties"]
    assert found("merge", "base", "a", "--dtype=b") == ["--dtype=bf16"]
    assert found("convert", "a", "--base=st") == ["--base=style.txt"]
    assert found("convert", "a", "--to", "koh") == ["kohya"]
    assert found("inspect", "") == ["style:1", "tone:2", "home", "style.txt"]


def test_a_store_that_is_not_there_is_not_made(completed: Completed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", "elsewhere")
    assert completed("rm", "") == []
    assert not Path("elsewhere").exists()


def test_completing_loads_nothing_that_takes_time() -> None:
    code = (
        "import sys; from adaptr.__main__ import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'numpy', 'rich', 'httpx', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    asked = {"_ADAPTR_COMPLETE": "bash_complete", "COMP_WORDS": "adaptr train b --over x", "COMP_CWORD": "4"}
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr.strip()) == ("file,x", "")
