"""What a Hub on this machine holds, and what was asked of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TOKEN = "hf_canary_secret_of_alice"
Files = Mapping[str, bytes]


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    tags: tuple[str, ...] = ("peft",)
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main", keep: bool = True) -> str:
        before = self.commits.get(self.branches.get(branch, ""), {}) if keep else {}
        tree = {**before, **files}
        text = repr((branch, len(self.commits), sorted((k, hashlib.sha1(v).hexdigest()) for k, v in tree.items())))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = tree, sha
        return sha


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    host: str
    token: bool
    range: str


@dataclass
class Hub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    log: list[Asked] = field(default_factory=list)
    fault: Literal["", "corrupt", "cut"] = ""
    busy: int = 0
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, files: Files, **said: Any) -> Repository:
        made = self.repositories.setdefault(name, Repository(**said))
        made.commit(files)
        return made

    def asked(self, text: str) -> list[Asked]:
        return [one for one in self.log if text in one.path]


def large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
