from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr.registry.client import credentials as c

HELPER = """#!/usr/bin/env python3
import json, pathlib, sys
file = pathlib.Path({file!r})
known = json.loads(file.read_text()) if file.exists() else {{}}
said = sys.stdin.read()
if sys.argv[1] == "store":
    entry = json.loads(said)
    known[entry["ServerURL"]] = entry
elif sys.argv[1] == "erase":
    known.pop(said.strip(), None)
elif said.strip() in known:
    print(json.dumps(known[said.strip()]))
else:
    sys.exit("credentials not found in native keychain")
file.write_text(json.dumps(known))
"""


def encoded(user: str, secret: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


def written(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper called `test`, and the file that it keeps."""
    programs, file = tmp_path / "bin", tmp_path / "kept.json"
    programs.mkdir()
    (programs / "docker-credential-test").write_text(HELPER.format(file=str(file)))
    (programs / "docker-credential-test").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return file


def test_the_order_of_places(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [
        own_home / "docker" / "config.json",
        own_home / ".config" / "containers" / "auth.json",
        own_home / "run" / "containers" / "auth.json",
        own_home / "own.json",
    ]
    monkeypatch.setenv("ADAPTR_AUTH_FILE", str(places[-1]))
    assert c.find("host:5000") is None
    for number, place in enumerate(places):
        written(place, {"auths": {"host:5000": encoded(f"user{number}", "s:e:c")}})
        found = c.find("host:5000")
        assert found
        assert (found.user, found.secret, found.place) == (f"user{number}", "s:e:c", str(place))


@pytest.mark.parametrize("key", ["host", "https://host", "https://host/v1/", "http://host/v2/", "host/"])
def test_ways_to_write_a_host(key: str, own_home: Path) -> None:
    written(own_home / "docker" / "config.json", {"auths": {key: encoded("alice", "x")}})
    assert (found := c.find("host"))
    assert found.user == "alice"
    assert c.find("other") is None


def test_a_repository_may_have_its_own(own_home: Path) -> None:
    auths = {"host": encoded("all", "x"), "host/acme": encoded("acme", "x"), "host/acme/a": encoded("a", "x")}
    written(own_home / "run" / "containers" / "auth.json", {"auths": auths})
    names = {where: c.find("host", where) for where in ("acme/a", "acme/b", "else/a", "")}
    assert {where: found and found.user for where, found in names.items()} == {
        "acme/a": "a",
        "acme/b": "acme",
        "else/a": "all",
        "": "all",
    }


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_the_hub_has_an_old_name(host: str, own_home: Path) -> None:
    written(own_home / "docker" / "config.json", {"auths": {"https://index.docker.io/v1/": encoded("alice", "x")}})
    assert (found := c.find(host))
    assert found.user == "alice"


def test_tokens_instead_of_passwords(own_home: Path) -> None:
    auths = {"a": {**encoded("u", ""), "identitytoken": "i"}, "b": {"registrytoken": "r"}, "c": {}}
    written(own_home / "docker" / "config.json", {"auths": auths})
    assert (a := c.find("a"))
    assert a.identity == "i"
    assert (b := c.find("b"))
    assert b.bearer == "r"
    assert c.find("c") is None


def test_a_helper_is_asked(own_home: Path, helper: Path) -> None:
    helper.write_text(
        json.dumps({"host": {"Username": "alice", "Secret": "x"}, "t": {"Username": "<token>", "Secret": "i"}})
    )
    written(own_home / "docker" / "config.json", {"credHelpers": {"host": "test", "t": "test"}, "auths": {"host": {}}})
    assert (found := c.find("host"))
    assert (found.user, found.secret) == ("alice", "x")
    assert (token := c.find("t"))
    assert (token.user, token.identity) == ("", "i")
    assert c.find("unknown") is None


def test_a_helper_keeps_and_forgets(own_home: Path, helper: Path) -> None:
    config = written(own_home / "docker" / "config.json", {"credsStore": "test"})
    assert c.keep("host", "alice", "x") == "docker-credential-test"
    assert (found := c.find("host"))
    assert found.secret == "x"
    assert "alice" not in config.read_text()
    assert c.forget("host") == ["docker-credential-test"]
    assert c.find("host") is None


@pytest.mark.parametrize("name", ["../evil", "a b", "a/b", "-x"])
def test_a_helper_has_a_plain_name(name: str, own_home: Path) -> None:
    written(own_home / "docker" / "config.json", {"credsStore": name})
    with pytest.raises(e.AuthError, match="helper"):
        c.find("host")


def test_a_helper_that_is_missing(own_home: Path) -> None:
    written(own_home / "docker" / "config.json", {"credsStore": "not-there"})
    with pytest.raises(e.MachineError, match="docker-credential-not-there"):
        c.find("host")


def test_what_is_kept_is_for_its_owner(own_home: Path) -> None:
    """Other entries and fields stay; an old way to write the host goes."""
    config = written(
        own_home / "docker" / "config.json",
        {"auths": {"other": encoded("bob", "y"), "https://host/v1/": encoded("old", "z")}, "proxies": {"a": 1}},
    )
    config.chmod(0o644)
    assert c.keep("host", "alice", "x") == str(config)
    document = json.loads(config.read_text())
    assert document == {"auths": {"other": encoded("bob", "y"), "host": encoded("alice", "x")}, "proxies": {"a": 1}}
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert c.forget("host") == [str(config)]
    assert c.forget("host") == []
    assert json.loads(config.read_text())["auths"] == {"other": encoded("bob", "y")}


def test_it_is_kept_where_the_host_is_known(own_home: Path) -> None:
    known = written(own_home / "run" / "containers" / "auth.json", {"auths": {"host": encoded("old", "x")}})
    assert c.keep("host", "alice", "x") == str(known)
    assert c.keep("new", "alice", "x") == str(own_home / "docker" / "config.json")


def test_a_linked_file_stays_a_link(own_home: Path) -> None:
    real = written(own_home / "dotfiles" / "config.json", {})
    link = own_home / "docker" / "config.json"
    link.parent.mkdir()
    link.symlink_to(real)
    c.keep("host", "alice", "x")
    assert link.is_symlink()
    assert "host" in real.read_text()


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_damaged_file(text: str, own_home: Path) -> None:
    path = own_home / "docker" / "config.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(e.AuthError, match=r"is not (a )?JSON"):
        c.find("host")


def test_no_secret_is_shown() -> None:
    shown = repr(c.Credential("alice", "SECRET", "SECRET", "SECRET"))
    assert "alice" in shown
    assert "SECRET" not in shown
