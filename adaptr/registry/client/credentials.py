"""Accounts by host, where other tools keep them too: nothing of ours to get out of step.

Read in this order: `ADAPTR_AUTH_FILE`; containers' `auth.json` (podman, skopeo); Docker's `config.json`, with its
credential helpers. Written to the first of them that knows the host, else to `ADAPTR_AUTH_FILE` or Docker's, for the
owner's eyes only.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaptr.errors import AuthError, MachineError, shown
from adaptr.files import replacing
from adaptr.untrusted import json_object, whole

#: Under which names Docker and its kin keep the account of the Hub.
_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
#: The user name by which helpers mark an identity token.
_TOKEN_USER = "<token>"
_HELPER_SECONDS = 30
#: The longest file with accounts, in bytes.
LIMIT = 16 << 20


@dataclass(frozen=True)
class Credential:
    """An account. `secret`: password; `identity`: a token that gets tokens; `bearer`: one for the registry itself."""

    user: str
    secret: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    place: str = ""

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


def find(host: str, repository: str = "") -> Credential | None:
    """The account for a host, or for the longest part of `host/repository` that has one of its own."""
    for path in files():
        document = _read(path)
        for key in _keys(host, repository):
            found = _entry(document, key, path)
            if found is not None:
                return found
    return None


def keep(host: str, user: str, secret: str) -> str:
    """Write an account down; returns where. Raises `MachineError`, `AuthError` where a helper refuses."""
    path = next((path for path in files() if _knows(_read(path), host)), _own())
    document = _read(path)
    helper = _helper(document, _key(host))
    if helper:
        _ask(helper, "store", json.dumps({"ServerURL": _key(host), "Username": user, "Secret": secret}))
        return f"docker-credential-{helper}"
    auths = {key: value for key, value in _auths(document).items() if _plain(key) != _plain(_key(host))}
    auths[_key(host)] = {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}
    _write(path, {**document, "auths": auths})
    return str(path)


def forget(host: str) -> list[str]:
    """Take the account of a host out of all places; returns those that had one."""
    places = []
    for path in files():
        document = _read(path)
        helper = _helper(document, _key(host))
        if helper and _asked(helper, _key(host)) is not None:
            _ask(helper, "erase", _key(host))
            places.append(f"docker-credential-{helper}")
        kept = {key: value for key, value in _auths(document).items() if _plain(key) != _plain(_key(host))}
        if kept != _auths(document):
            _write(path, {**document, "auths": kept})
            places.append(str(path))
    return places


def files() -> list[Path]:
    """Where accounts are read, first to last."""
    said, runtime = os.environ.get("ADAPTR_AUTH_FILE"), os.environ.get("XDG_RUNTIME_DIR")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    found = [Path(said)] if said else []
    found += [Path(runtime) / "containers" / "auth.json"] if runtime else []
    return [*found, config / "containers" / "auth.json", _docker()]


def _docker() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def _own() -> Path:
    return Path(os.environ.get("ADAPTR_AUTH_FILE") or _docker())


def _key(host: str) -> str:
    return _HUB if host in _HUB_NAMES else host


def _keys(host: str, repository: str) -> Iterator[str]:
    """What the account of a repository may be kept under, most particular first."""
    parts = repository.split("/") if repository else []
    yield from (f"{host}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1))
    yield _key(host)


def _plain(key: str) -> str:
    """A key without what people put around a host."""
    return re.sub(r"/v[12]/?\Z", "", re.sub(r"\Ahttps?://", "", key)).rstrip("/")


def _knows(document: dict[str, Any], host: str) -> bool:
    return _helper(document, _key(host)) != "" or any(_plain(key) == _plain(_key(host)) for key in _auths(document))


def _auths(document: dict[str, Any]) -> dict[str, Any]:
    found = document.get("auths")
    return found if isinstance(found, dict) else {}


def _helper(document: dict[str, Any], key: str) -> str:
    """The name of the helper that keeps a host's account, "" if it is in the file itself."""
    helpers = document.get("credHelpers")
    found = (helpers.get(key) or helpers.get(_plain(key))) if isinstance(helpers, dict) else None
    found = found or document.get("credsStore") or ""
    if not isinstance(found, str) or (found and not _HELPER.match(found)):
        raise AuthError(
            f"`{shown(found)}` is no name of a credential helper",
            hint="correct `credsStore` and `credHelpers` in docker's `config.json`",
        )
    return found


def _entry(document: dict[str, Any], key: str, path: Path) -> Credential | None:
    entry = next((value for name, value in _auths(document).items() if _plain(name) == _plain(key)), None)
    if isinstance(entry, dict):
        found = _plain_entry(entry, path)
        if found is not None:
            return found
    helper = _helper(document, key) if "/" not in _plain(key) or key == _HUB else ""
    return _asked(helper, key) if helper else None


def _plain_entry(entry: dict[str, Any], path: Path) -> Credential | None:
    """An account in the file; None for the empty entry that Docker leaves beside a helper."""
    said = {key: value for key, value in entry.items() if isinstance(value, str)}
    user, secret = said.get("username", ""), said.get("password", "")
    if said.get("auth"):
        try:
            user, _, secret = base64.b64decode(said["auth"]).decode().partition(":")
        except ValueError:
            raise AuthError(
                f"`{path}` holds an account that can't be read", hint="log in again with `adaptr login`"
            ) from None
    identity, bearer = said.get("identitytoken", ""), said.get("registrytoken", "")
    if not (user or identity or bearer):
        return None
    return Credential(user, secret.rstrip("\0"), identity, bearer, str(path))


def _asked(helper: str, key: str) -> Credential | None:
    """What a helper knows of a host."""
    try:
        found = json_object(_ask(helper, "get", key).encode(), f"what `docker-credential-{helper}` says", AuthError)
        user, secret = found["Username"], found["Secret"]
    except (AuthError, KeyError):
        return None
    if not isinstance(user, str) or not isinstance(secret, str):
        return None
    place = f"docker-credential-{helper}"
    return Credential("", "", secret, "", place) if user == _TOKEN_USER else Credential(user, secret, "", "", place)


class _Unknown(AuthError):
    """The helper has no account of that host."""


def _ask(helper: str, verb: str, text: str) -> str:
    """Run a helper. What it prints is not shown: it may hold the secret."""
    program = f"docker-credential-{helper}"
    try:
        ran = subprocess.run(
            [program, verb], input=text, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise MachineError(
            f"`{program}`, which keeps the accounts, is not installed",
            hint="install it, or take it out of docker's `config.json` and log in again",
        ) from None
    except (OSError, subprocess.TimeoutExpired):
        raise MachineError(
            f"`{program} {verb}` does not work, or took longer than {_HELPER_SECONDS} s",
            hint="try it in a terminal to see why",
        ) from None
    if ran.returncode:
        raise _Unknown(f"`{program} {verb}` refuses")
    return ran.stdout


def _read(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path):
        return {}
    return json_object(whole(path, LIMIT), f"`{path}`, which keeps accounts,", AuthError)


def _write(path: Path, document: dict[str, Any]) -> None:
    target = Path(os.path.realpath(path))  # people link such files to where they keep them
    with replacing(target, force=True) as file:
        os.fchmod(file.fileno(), 0o600)  # before anything is in it
        file.write(json.dumps(document, indent=2).encode() + b"\n")
