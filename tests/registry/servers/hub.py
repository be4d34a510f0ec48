"""A Hub on this machine: as much of the Hugging Face API as huggingface_hub uses to read, write and search.

Large files are answered with a redirect to another host name, as the Hub's content network is one, and everything that
is asked is kept in `log`. `fault`: what goes wrong with files; `busy`: how many answers are 429 before it goes on.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from registry.servers.repositories import TOKEN, Asked, Hub, Repository, git_oid, large, sha256
from registry.servers.serving import serving

NAME = r"[\w.-]+/[\w.-]+"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.body = self._read()
        url = urlsplit(self.path)
        token = bool(self.headers.get("Authorization"))
        self.hub.log.append(
            Asked(self.command, self.path, self.headers["Host"], token, self.headers.get("Range") or "")
        )
        if self.hub.busy:
            self.hub.busy -= 1
            self.answer(429, {"error": "slow down"}, {"Retry-After": "0"})
            return
        for pattern, handle in ROUTES:
            if found := re.fullmatch(pattern, unquote(url.path)):
                handle(self, *found.groups())
                return
        self.answer(404, {"error": f"no route {url.path}"})

    do_HEAD = do_POST = do_PUT = do_GET

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while count := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(count)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, code: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send(self, data: bytes, headers: Mapping[str, str]) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if found is None:
            self.answer(200, data, headers)
            return
        start, end = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
        self.answer(206, data[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})

    def repository(self, name: str) -> Repository | None:
        """The repository, unless it is not there or not for this account; then that was answered."""
        found = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if found is None or (found.private and not known):
            self.answer(404 if known else 401, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})
            return None
        if found.gated and "/resolve/" in self.path:
            self.answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
            return None
        return found

    def tree(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = self.repository(name)
        if found is None:
            return None
        sha = found.branches.get(revision, revision)
        if sha not in found.commits:
            self.answer(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
            return None
        return sha, found.commits[sha]


def model(handler: Handler, name: str, revision: str | None) -> None:
    if found := handler.tree(name, revision or "main"):
        sha, files = found
        siblings = [{"rfilename": path} for path in sorted(files)]
        said = {"id": name, "sha": sha, "private": False, "siblings": siblings, "cardData": {"license": "mit"}}
        handler.answer(200, {**said, "tags": ["peft"]})


def models(handler: Handler) -> None:
    asked = parse_qs(urlsplit(handler.path).query)
    words, author = asked.get("search", [""])[0].lower().split(), asked.get("author", [""])[0]
    wanted = set(asked.get("filter", []))
    found = [
        {"id": name, "tags": list(one.tags)}
        for name, one in sorted(handler.hub.repositories.items())
        if wanted <= set(one.tags) and all(word in name.lower() for word in words) and name.startswith(author)
    ]
    handler.answer(200, found)


def listing(handler: Handler, name: str, revision: str, folder: str | None) -> None:
    if found := handler.tree(name, revision):
        prefix = f"{folder.strip('/')}/" if folder else ""
        inside = {path: data for path, data in found[1].items() if path.startswith(prefix)}
        if folder and not inside:
            handler.answer(404, {"error": "no folder"}, {"X-Error-Code": "EntryNotFound"})
            return
        here = [path for path in inside if "/" not in path[len(prefix) :]]
        folders = {prefix + path[len(prefix) :].partition("/")[0] for path in inside if path not in here}
        rows = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]
        handler.answer(200, rows + [row(path, inside[path]) for path in sorted(here)])


def row(path: str, data: bytes) -> dict[str, Any]:
    lfs = {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 134}} if large(path) else {}
    return {"type": "file", "path": path, "size": len(data), "oid": git_oid(data), **lfs}


def resolve(handler: Handler, name: str, revision: str, path: str) -> None:
    found = handler.tree(name, revision)
    if found is None:
        return
    sha, files = found
    if path not in files:
        handler.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        return
    data = files[path]
    said = {"X-Repo-Commit": sha, "ETag": f'"{git_oid(data)}"'}
    if large(path):
        there = f"http://localhost:{handler.hub.port}/cdn/{sha256(data)}"
        handler.answer(302, b"", {**said, "Location": there, "X-Linked-Etag": f'"{sha256(data)}"'})
        return
    handler.send(b"\xff" + data[1:] if handler.hub.fault == "corrupt" else data, said)


def cdn(handler: Handler, digest: str) -> None:
    trees = [tree for one in handler.hub.repositories.values() for tree in one.commits.values()]
    data = next(data for tree in trees for data in tree.values() if sha256(data) == digest)
    if handler.hub.fault == "corrupt":
        data = b"\xff" + data[1:]
    if handler.hub.fault == "cut" and not handler.headers.get("Range"):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.close_connection = True
        return
    handler.send(data, {"ETag": f'"{digest}"'})


def create(handler: Handler) -> None:
    asked = json.loads(handler.body)
    name = f"{asked.get('organization') or 'alice'}/{asked['name']}"
    if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
        handler.answer(401, {"error": "who are you"})
        return
    if name in handler.hub.repositories:
        handler.answer(409, {"url": f"{handler.hub.endpoint}/{name}", "error": "exists"})
        return
    handler.hub.add(name, {".gitattributes": b""})
    handler.answer(200, {"url": f"{handler.hub.endpoint}/{name}", "name": name})


def branch(handler: Handler, name: str, called: str) -> None:
    if found := handler.repository(name):
        status = 409 if called in found.branches else 200
        found.branches.setdefault(called, found.branches["main"])
        handler.answer(status, {})


def preupload(handler: Handler, name: str, revision: str) -> None:
    files = [
        {"path": one["path"], "uploadMode": "lfs" if large(one["path"]) else "regular", "shouldIgnore": False}
        for one in json.loads(handler.body)["files"]
    ]
    handler.answer(200, {"files": [{**one, "oid": None} for one in files]})


def batch(handler: Handler, name: str) -> None:
    def one(asked: dict[str, Any]) -> dict[str, Any]:
        known = asked["oid"] in handler.hub.uploads
        actions = {
            "upload": {"href": f"{handler.hub.endpoint}/lfs/{asked['oid']}"},
            "verify": {"href": f"{handler.hub.endpoint}/lfs-verify"},
        }
        return {"oid": asked["oid"], "size": asked["size"], **({} if known else {"actions": actions})}

    handler.answer(200, {"transfer": "basic", "objects": [one(o) for o in json.loads(handler.body)["objects"]]})


def upload(handler: Handler, digest: str) -> None:
    if sha256(handler.body) != digest:
        handler.answer(400)
        return
    handler.hub.uploads[digest] = handler.body
    handler.answer(200)


def verify(handler: Handler) -> None:
    handler.answer(200 if json.loads(handler.body)["oid"] in handler.hub.uploads else 404, {})


def commit(handler: Handler, name: str, revision: str) -> None:
    files = {}
    for line in handler.body.splitlines():
        said = json.loads(line)
        value = said["value"]
        if said["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        if said["key"] == "lfsFile":
            files[value["path"]] = handler.hub.uploads[value["oid"]]
    sha = handler.hub.repositories[name].commit(files, revision)
    url = f"{handler.hub.endpoint}/{name}/commit/{sha}"
    handler.answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})


def yaml(handler: Handler) -> None:
    handler.answer(200, {"errors": [], "warnings": []})


ROUTES: tuple[tuple[str, Callable[..., None]], ...] = (
    (r"/api/models", models),
    (rf"/api/models/({NAME})(?:/revision/(.+))?", model),
    (rf"/api/models/({NAME})/tree/([^/]+)(/.*)?", listing),
    (rf"/api/models/({NAME})/branch/(.+)", branch),
    (rf"/api/models/({NAME})/preupload/(.+)", preupload),
    (rf"/api/models/({NAME})/commit/(.+)", commit),
    (r"/api/repos/create", create),
    (r"/api/validate-yaml", yaml),
    (rf"/({NAME})\.git/info/lfs/objects/batch", batch),
    (rf"/({NAME})/resolve/([^/]+)/(.+)", resolve),
    (r"/cdn/([0-9a-f]{64})", cdn),
    (r"/lfs/([0-9a-f]{64})", upload),
    (r"/lfs-verify", verify),
)


@contextmanager
def fake_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with serving(handler) as port:
        hub.port = port
        yield hub


def meant(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf://` means this Hub from now on, for somebody who has not logged in."""
    from huggingface_hub import constants

    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setattr(constants, name, True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
