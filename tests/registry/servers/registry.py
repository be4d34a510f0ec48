"""Debian's docker-registry on 127.0.0.1, port 0, each variant a process of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .processes import end

BINARY = "docker-registry"


@dataclass
class DockerRegistry:
    """`host` as references write it; `root` holds what the registry stores."""

    host: str
    root: Path
    process: subprocess.Popen[bytes]

    def blob(self, digest: str) -> Path:
        """The registry's own file of a blob."""
        return self.root / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"


@contextmanager
def docker_registry(root: Path, **variant: Any) -> Iterator[DockerRegistry]:
    """`auth` and `tls` as in the registry's own configuration."""
    if shutil.which(BINARY) is None:
        pytest.skip(f"`{BINARY}` is not installed: apt-get install {BINARY}")
    http = {"addr": "127.0.0.1:0", "secret": "test", **({"tls": variant["tls"]} if "tls" in variant else {})}
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
        "http": http,
    }
    if "auth" in variant:
        config["auth"] = variant["auth"]
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.yml").write_text(yaml.safe_dump(config))
    with open(root / "log", "wb") as log:
        process = subprocess.Popen([BINARY, "serve", str(root / "config.yml")], stdout=log, stderr=log)
    try:
        yield DockerRegistry(f"127.0.0.1:{_port(root / 'log', process)}", root, process)
    finally:
        end(process)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.01)
    raise RuntimeError(log.read_text())


def htpasswd(path: Path, accounts: dict[str, str]) -> dict[str, Any]:
    """The `auth` of a registry with these accounts; bcrypt is the only hash that it knows."""
    import bcrypt

    lines = [
        f"{user}:{bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()}" for user, secret in accounts.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return {"htpasswd": {"realm": "adaptr test", "path": str(path)}}
