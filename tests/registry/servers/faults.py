"""A registry that goes wrong as it is told: a proxy before a real one.

A rule is (regular expression on "METHOD path", fault, how often). Faults of the answer: `cut:N` and `rst:N` end it
after N bytes of the body, politely or not; `norange`; `range:SHIFT` starts elsewhere than it was asked for;
`unsatisfied` answers a range with 416; `corrupt`; `oversize:N`; `short:N`; `slow:SECONDS` between 64 KiB; `gzip:N`
packs N zero bytes; `header:NAME=VALUE`. Instead of one: `status:CODE[:RETRY-AFTER]`; `location:URL` redirects; `drop`
says nothing; `rstbody:N` breaks off after N bytes sent.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .processes import Quiet, Server, serving

STEP = 1 << 16
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass
class Rule:
    pattern: str
    fault: str
    times: int = 1 << 30

    def matches(self, line: str) -> bool:
        return self.times > 0 and re.search(self.pattern, line) is not None


@dataclass
class Faults:
    """`seen`: "METHOD path" and headers of each request."""

    host: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, pattern: str, fault: str, times: int = 1 << 30) -> None:
        self.rules.append(Rule(pattern, fault, times))

    def take(self, line: str) -> dict[str, str]:
        """The fault of a request: that of the first rule that fits, which is used up by one."""
        with self.lock:
            found = next((rule for rule in self.rules if rule.matches(line)), None)
            if found is None:
                return {}
            found.times -= 1
        return {found.fault.partition(":")[0]: found.fault.partition(":")[2]}

    def lines(self, method: str = "") -> list[str]:
        return [line for line, _ in self.seen if line.startswith(method)]


@contextmanager
def fault_server(upstream: str, state: Faults | None = None) -> Iterator[Faults]:
    """A faulty proxy before the registry at `upstream` (host:port)."""
    state = state or Faults("")

    class Handler(Quiet):
        def do_any(self) -> None:
            line = f"{self.command} {self.path}"
            length = int(self.headers.get("Content-Length") or 0)
            faults = state.take(line)
            with state.lock:
                state.seen.append((line, dict(self.headers)))
            if "rstbody" in faults:
                self.rfile.read(min(length, int(faults["rstbody"])))
                return self.vanish(True)
            body = self.rfile.read(length)
            if "drop" in faults:
                return self.vanish(False)
            if "status" in faults:
                code, _, after = faults["status"].partition(":")
                return self.answer(int(code), **({"Retry_After": after} if after else {}))
            if "unsatisfied" in faults and "Range" in self.headers:
                return self.answer(416)
            if "location" in faults:
                return self.answer(307, Location=faults["location"])
            return self.passed_on(body, faults)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_any

        def passed_on(self, body: bytes, faults: dict[str, str]) -> None:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"connection"}}
            if "norange" in faults:
                headers.pop("Range", None)
            if "range" in faults and "Range" in headers:
                first = int(re.findall(r"\d+", headers["Range"])[0])
                headers["Range"] = f"bytes={max(first + int(faults['range']), 0)}-"
            connection = http.client.HTTPConnection(upstream, timeout=30)
            try:
                connection.request(self.command, self.path, body=body, headers=headers)
                answer = connection.getresponse()
                self.give(answer, answer.read(), faults)
            finally:
                connection.close()

        def give(self, answer: http.client.HTTPResponse, body: bytes, faults: dict[str, str]) -> None:
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
            length = int(answer.headers.get("Content-Length") or len(body))
            if "corrupt" in faults and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
            if "oversize" in faults:
                body += b"x" * int(faults["oversize"])
            if "short" in faults:
                body = body[: -int(faults["short"])]
            if "gzip" in faults:
                body, headers["Content-Encoding"] = _bomb(int(faults["gzip"])), "gzip"
            if "header" in faults:
                name, _, value = faults["header"].partition("=")
                headers[name] = value
            self.send_response(answer.status)
            for name, value in headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(length if self.command == "HEAD" else len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.send_body(body, faults)

        def send_body(self, body: bytes, faults: dict[str, str]) -> None:
            end = int(faults.get("cut") or faults.get("rst") or len(body))
            for start in range(0, min(end, len(body)), STEP):
                self.wfile.write(body[start : min(start + STEP, end)])
                if "slow" in faults:
                    time.sleep(float(faults["slow"]))
            if end < len(body):
                self.vanish("rst" in faults)

        def vanish(self, rudely: bool) -> None:
            self.close_connection = True
            if rudely:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        state.host = f"127.0.0.1:{port}"
        yield state


def _bomb(size: int) -> bytes:
    """`size` zero bytes, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()
