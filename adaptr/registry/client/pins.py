"""Which token server a registry's password may go to: the one that `adaptr login` showed, or one of old standing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from adaptr.errors import AuthError
from adaptr.files import replacing
from adaptr.files.home import home, made, require_own
from adaptr.registry.client import address
from adaptr.registry.client.address import Origin
from adaptr.untrusted import json_file

#: Registries whose token server has another name, as their operators publish it.
KNOWN = {
    "registry-1.docker.io": "https://auth.docker.io",
    "registry.gitlab.com": "https://gitlab.com",
}


def allowed(base: Origin, realm: Origin) -> bool:
    """Whether the password for the registry `base` may go to `realm`."""
    return realm == base or str(realm) in {KNOWN.get(base.host), _read().get(_name(base))}


def pin(base: Origin, realm: Origin) -> None:
    """Remember that it may."""
    if realm != base:
        _write({**_read(), _name(base): str(realm)})


def unpin(host: str) -> None:
    """Forget it, for a registry as it is called."""
    found = _read()
    if found.pop(address.ALIASES.get(host, host).lower(), None) is not None:
        _write(found)


def _name(base: Origin) -> str:
    return str(base).partition("://")[2]


def _path() -> Path:
    return home() / "realms.json"


def _read() -> dict[str, str]:
    if not _path().is_file():
        return {}
    for one in (home(), _path()):
        require_own(one)
    return {key: str(value) for key, value in json_file(_path()).items()}


def _write(document: dict[str, str]) -> None:
    require_own(made(home()))
    with replacing(_path(), force=True) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def require_plausible(base: Origin, realm: Origin) -> None:
    """Raises `AuthError` for a token server that no registry needs: unencrypted, or inside this network."""
    if realm.scheme != "https" and base.scheme == "https":
        raise AuthError(
            f"`{base}` sends us to `{realm}` for a token, which is not encrypted: refused", hint="tell those who run it"
        )
    if realm.host != base.host and address.literal_inside(realm.host):
        raise AuthError(
            f"`{base}` sends us to `{realm}` for a token, which is inside this network: refused",
            hint="tell those who run it",
        )
