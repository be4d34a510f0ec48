"""A plain web server for a folder: ranges, and what goes wrong with them. Everything that is asked is kept in `log`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from registry.servers.certificates import Pair
from registry.servers.serving import serving

Fault = Literal["", "cut", "corrupt", "no ranges", "long", "busy", "away"]


@dataclass
class Static:
    """`fault`: what goes wrong, `cut` only the first time; `moved`: where a path has gone to."""

    root: Path
    port: int = 0
    scheme: str = "http"
    fault: Fault = ""
    moved: dict[str, str] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    static: ClassVar[Static]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, span = unquote(urlsplit(self.path).path), self.headers.get("Range") or ""
        self.static.log.append((path, span))
        file = self.static.root / path.lstrip("/")
        if path in self.static.moved:
            self._answer(302, b"", {"Location": self.static.moved[path]})
        elif self.static.fault == "busy":
            self._answer(503, b"")
        elif not file.is_file():
            self._answer(404, b"not here")
        else:
            self._send(file.read_bytes(), span)

    do_HEAD = do_GET

    def _send(self, data: bytes, span: str) -> None:
        fault = self.static.fault
        if fault == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault == "long":
            data += b"and more"
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", span)
        if found and fault != "no ranges":
            start, end = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
            self._answer(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})
        elif fault == "cut" and self.static.log.count((self.path, "")) == 1:
            self._answer(200, data[: len(data) // 2], {"Content-Length": str(len(data))})
            self.close_connection = True
        else:
            self._answer(200, data)

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def static_server(root: Path, pair: Pair | None = None) -> Iterator[Static]:
    """`pair`: the certificate and key that it is encrypted with."""
    static = Static(root, scheme="https" if pair else "http")
    with serving(type("StaticHandler", (Handler,), {"static": static}), pair) as port:
        static.port = port
        yield static
