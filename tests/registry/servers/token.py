"""A token server for Docker's token protocol: RS256 tokens that Debian's docker-registry checks itself.

`alice` may do everything, `bob` may only pull; without an account, `public/` may be pulled.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .certificates import Pair
from .processes import Quiet, Server, serving

ACCOUNTS = {"alice": "s3cret", "bob": "builder"}
IDENTITY = "identity-of-alice"
ISSUER, SERVICE = "adaptr-test", "registry"


@dataclass
class TokenServer:
    """`asked`: (user or "", scopes) of each request; `life`: of tokens, in seconds; `broken`: answers to give first."""

    realm: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    life: int = 60
    denied: set[str] = field(default_factory=set)
    broken: list[int] = field(default_factory=list)


@contextmanager
def token_server(pair: Pair) -> Iterator[TokenServer]:
    import jwt

    key = pair.key.read_text()
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())).decode()
    state = TokenServer("")

    class Handler(Quiet):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            said = self.headers.get("Authorization", "")
            user, _, secret = base64.b64decode(said[6:]).decode().partition(":") if said else ("", "", "")
            self.give(user, not said or ACCOUNTS.get(user) == secret, query)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            query = urllib.parse.parse_qs(self.rfile.read(length).decode())
            known = query["refresh_token"] == [IDENTITY] and query["grant_type"] == ["refresh_token"]
            self.give("alice", known, query)

        def give(self, user: str, known: bool, query: dict[str, list[str]]) -> None:
            scopes = " ".join(query.get("scope", []))
            state.asked.append((user, scopes))
            if state.broken:
                return self.answer(state.broken.pop(0), Retry_After="0")
            if not known:
                return self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            access = [allowed(user, scope) for scope in scopes.split() if scope not in state.denied]
            now = int(time.time())
            claims = {"iss": ISSUER, "sub": user, "aud": query["service"][0], "exp": now + state.life, "nbf": now - 10}
            claims |= {"iat": now, "jti": str(uuid.uuid4()), "access": access}
            token = jwt.encode(claims, key, "RS256", headers={"x5c": [der]})
            body = json.dumps({"token": token, "expires_in": state.life}).encode()
            return self.answer(200, body, Content_Type="application/json")

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        state.realm = f"http://127.0.0.1:{port}/token"
        yield state


def allowed(user: str, scope: str) -> dict[str, Any]:
    kind, name, said = scope.rsplit(":", 2) if scope.count(":") > 1 else (scope, "", "")
    actions = said.split(",")
    if user != "alice":
        actions = [a for a in actions if a == "pull" and (user == "bob" or name.startswith("public/"))]
    return {"type": kind, "name": name, "actions": actions}
