"""`adaptr login` and `logout` as people type them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptr.cli import run
from adaptr.registry.client.address import origin
from registry.servers.registry import DockerRegistry
from registry.servers.token import TokenServer

Line = Callable[..., tuple[int, str, str]]


@pytest.fixture
def adaptr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        code = run(list(arguments))
        return code, *capfd.readouterr()

    return call


def test_in_and_out(adaptr: Line, locked: DockerRegistry, own_home: Path) -> None:
    given: Any = ("login", locked.host, "--user", "alice", "--password-stdin")
    code, out, err = adaptr(*given, stdin="s3cret\n")
    assert code == 0, err
    assert "alice" in out
    config = own_home / "docker" / "config.json"
    assert locked.host in json.loads(config.read_text())["auths"]
    code, out, err = adaptr("logout", locked.host)
    assert code == 0
    assert str(config) in out
    assert json.loads(config.read_text())["auths"] == {}
    assert adaptr("logout", locked.host)[0] == 6


def test_the_server_that_checks_is_named(adaptr: Line, bearer: DockerRegistry, tokens: TokenServer) -> None:
    code, out, err = adaptr("login", bearer.host, "-u", "alice", "--password-stdin", "--json", stdin="s3cret")
    assert code == 0
    found = json.loads(out)
    assert (found["checked_at"], found["tested"]) == (str(origin(tokens.realm)), True)
    assert str(origin(tokens.realm)) in err
    assert "s3cret" not in out + err


def test_a_wrong_password_is_not_kept(adaptr: Line, locked: DockerRegistry, own_home: Path) -> None:
    code, out, err = adaptr("login", locked.host, "-u", "alice", "--password-stdin", "-v", stdin="WRONG-ONE")
    assert code == 6
    assert "does not accept the account `alice`" in err
    assert "WRONG-ONE" not in out + err
    assert not (own_home / "docker" / "config.json").exists()


def test_no_terminal_no_question(adaptr: Line, locked: DockerRegistry) -> None:
    code, _, err = adaptr("login", locked.host, "-u", "alice")
    assert code == 2
    assert "--password-stdin" in err


def test_an_open_registry_says_so(adaptr: Line, plain: DockerRegistry) -> None:
    code, out, _ = adaptr("login", plain.host, "-u", "alice", "--password-stdin", stdin="x")
    assert code == 0
    assert "could not be tried" in out
