"""Every kind of failure once: text, JSON and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from adaptr import errors
from adaptr.cli import group, run
from adaptr.cli.options import command
from adaptr.cli.output import Output
from adaptr.files import record, replacing_folder

CODES = {
    errors.AdaptrError: 1,
    errors.UsageError: 2,
    errors.InputError: 3,
    errors.WrongBase: 4,
    errors.NotPossible: 5,
    errors.RegistryError: 6,
    errors.IntegrityError: 7,
    errors.MachineError: 8,
    errors.Interrupted: 130,
}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | Callable], None]:
    """A command `methods` that raises what the test says."""

    def install(error: BaseException | Callable) -> None:
        @command("methods")
        def made(out: Output) -> None:
            if isinstance(error, BaseException):
                raise error
            error(out)

        monkeypatch.setattr("adaptr.cli.commands.methods.command", made)

    return install


def every_error() -> list[type[errors.AdaptrError]]:
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.AdaptrError)]


def made(kind: type[errors.AdaptrError], what: str, **parts: object) -> errors.AdaptrError:
    """An error of any class; why a method can't be merged is worded by its class."""
    return errors.NotMergeable("lora", what, "y") if kind is errors.NotMergeable else kind(what, **parts)


@pytest.mark.parametrize("kind", every_error(), ids=lambda c: c.__name__)
def test_each_error_has_its_code_in_text_and_json(kind: type, failing: Callable, adaptr: Callable) -> None:
    error = made(kind, "`x` is wrong; do y")
    want = next(code for base, code in reversed(CODES.items()) if issubclass(kind, base))
    failing(error)
    text, data = adaptr("methods"), adaptr("methods", "--json")
    assert (text.code, text.out, text.err) == (want, "", f"error: {error}\n")
    assert (data.code, data.err) == (want, "")
    said = {"type": kind.__name__, "message": str(error), "exit_code": want, "page": f"adaptr explain {kind.__name__}"}
    assert data.json == {"error": {**said, **error.parts}}


@pytest.mark.parametrize("kind", every_error(), ids=lambda c: c.__name__)
def test_each_error_of_parts_has_them_as_fields(kind: type, failing: Callable, adaptr: Callable) -> None:
    error = made(kind, "`r`", got=0, want="at least 1", hint="leave it out")
    failing(error)
    told = adaptr("methods", "--json").json["error"]
    assert {name: told[name] for name in error.parts} == error.parts
    assert "hint" in told


def test_verbose_names_the_class_and_shows_the_trace(failing: Callable, adaptr: Callable) -> None:
    failing(errors.TargetNotFound("`q` is not there"))
    for flag in ("-v", "--verbose"):
        ran = adaptr("methods", flag)
        assert ran.err.startswith("error: TargetNotFound: `q` is not there")
        assert "Traceback" in ran.err
    assert "Traceback" not in adaptr("methods").err


def test_an_unexpected_error_says_that_it_is_a_bug(failing: Callable, adaptr: Callable) -> None:
    failing(ZeroDivisionError("division by zero"))
    ran = adaptr("methods")
    assert ran.code == 70
    assert "bug in adaptr" in ran.err
    assert "ZeroDivisionError: division by zero" in ran.err
    assert "-v" in ran.err
    assert "Traceback" not in ran.err
    loud = adaptr("methods", "-v", "--json")
    assert loud.json["error"]["type"] == "Bug"
    assert "page" not in loud.json["error"]
    assert "Traceback" in loud.err


def test_too_little_memory_is_the_machine_s(failing: Callable, adaptr: Callable) -> None:
    failing(MemoryError())
    ran = adaptr("methods")
    assert ran.code == 8
    assert "not enough memory" in ran.err


def test_an_error_of_the_system_is_the_machines(failing: Callable, adaptr: Callable) -> None:
    failing(OSError(28, "No space left on device", "/full/disk"))
    ran = adaptr("methods")
    assert (ran.code, ran.err) == (8, "error: `/full/disk`: No space left on device\n")
    assert adaptr("methods", "--json").json["error"]["page"] == "adaptr explain MachineError"


@pytest.mark.parametrize(
    "arguments",
    [("methods", "--nonsense"), ("merge", "base"), ("apply", "b", "-p", "x", "--temperature", "0"), ("nonsense",)],
    ids=" ".join,
)
def test_usage_errors_point_to_the_help(arguments: tuple[str, ...], adaptr: Callable) -> None:
    ran = adaptr(*arguments)
    assert ran.code == 2
    assert "--help`" in ran.err
    data = adaptr(*arguments, "--json")
    assert (data.code, data.err, data.json["error"]["type"]) == (2, "", "UsageError")


def test_interrupted(failing: Callable, adaptr: Callable) -> None:
    failing(KeyboardInterrupt())
    ran = adaptr("methods")
    assert ran.code == 130
    assert "what was there before is still there" in ran.err
    assert adaptr("methods", "--json").json["error"]["type"] == "Interrupted"


def test_quiet_prints_errors_alone(failing: Callable, adaptr: Callable) -> None:
    failing(lambda out: out.tell({"a": 1}, ["text"]))
    assert adaptr("methods").out == "text\n"
    assert adaptr("methods", "-q").out == ""
    failing(errors.InputError("broken"))
    assert adaptr("methods", "-q").err == "error: broken\n"


def test_json_has_no_nan(failing: Callable, adaptr: Callable) -> None:
    failing(lambda out: out.tell({"a": float("nan"), "b": (1, float("inf")), "c": Path("x")}, []))
    assert adaptr("methods", "--json").json == {"a": None, "b": [1, None], "c": "x"}


def test_a_value_that_looks_like_an_option_is_a_value(adaptr: Callable) -> None:
    ran = adaptr("apply", "/nowhere", "--prompt", "--json")
    assert ran.code == 3
    assert ran.out == ""
    assert ran.err.startswith("error: ")


def test_a_closed_pipe_is_no_bug() -> None:
    line = f"'{sys.executable}' -m adaptr methods | head -n 1"
    ran = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert ran.stdout.startswith("method")


def test_a_reader_that_is_gone_is_no_difference() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        ran = subprocess.run([sys.executable, "-m", "adaptr", "methods"], stdout=nobody, stderr=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_without_a_standard_output_a_command_does_its_work() -> None:
    ran = subprocess.run(f"'{sys.executable}' -m adaptr methods >&-", shell=True, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


WAITING = """
import sys
from pathlib import Path
from adaptr.files import replacing, replacing_folder
import adaptr.cli.commands.methods as methods
from adaptr.cli.options import command

@command("methods")
def made(out):
    with replacing_folder(Path("out"), force=True) as folder, replacing(Path("file"), force=True) as file:
        (folder / "half").write_text("half")
        file.write(b"half")
        Path("started").touch()
        import time
        time.sleep(60)

methods.command = made
from adaptr.__main__ import main
sys.exit(main(["methods"]))
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "kill"])
def test_an_interrupted_command_leaves_what_was_there(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    with replacing_folder(tmp_path / "out") as folder:
        (folder / "old").write_text("old")
    (tmp_path / "file").write_text("old")
    child = subprocess.Popen([sys.executable, "-c", WAITING], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists():
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, sent)
    _, said = child.communicate(timeout=120)
    assert child.returncode == code
    assert "Traceback" not in said
    (tmp_path / "started").unlink()
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert left == {"file", "out", "out/old", f"out/{record.NAME}"}
    assert (tmp_path / "file").read_text() == "old"


def test_completion_knows_the_commands() -> None:
    wanted = {**os.environ, "_ADAPTR_COMPLETE": "bash_complete", "COMP_WORDS": "adaptr me", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'adaptr'; from adaptr.__main__ import main; sys.exit(main())"
    ran = subprocess.run([sys.executable, "-c", code], env=wanted, capture_output=True, text=True, check=False)
    assert {line.partition(",")[2] for line in ran.stdout.split()} == {"methods", "merge"}


def test_the_runner_raises_nothing() -> None:
    assert isinstance(group.cli, click.Group)
    assert run(["methods", "no-such-method"]) == 2


def parted() -> errors.BadConfig:
    return errors.BadConfig("`rank`", got=0, want="at least 1", hint="leave it out")


def test_an_error_of_parts_is_one_sentence_and_fields(failing: Callable, adaptr: Callable) -> None:
    failing(parted())
    assert adaptr("methods").err == "error: `rank` is 0, wanted at least 1; leave it out\n"
    told = adaptr("methods", "--json").json["error"]
    assert told == {
        "type": "BadConfig",
        "message": "`rank` is 0, wanted at least 1; leave it out",
        "exit_code": 2,
        "what": "`rank`",
        "got": "0",
        "want": "at least 1",
        "hint": "leave it out",
        "page": "adaptr explain BadConfig",
    }


def test_a_terminal_gets_cause_and_hint_on_lines_of_their_own(
    failing: Callable, adaptr: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(out: Output) -> None:
        raise parted() from errors.InputError("`x` holds `\x1b[31m`")

    failing(refuse)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    said = adaptr("methods").err
    assert said == ("error: `rank` is 0, wanted at least 1\n  cause: `x` holds `\\x1b[31m`\n  hint: leave it out\n")


def test_a_parted_error_goes_through_a_pickle() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(parted()))
    assert (str(again), again.parts, again.hint) == (str(parted()), parted().parts, "leave it out")
