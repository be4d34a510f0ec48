"""Who we are to one registry: what it asks for is learnt from its first no, then said before it asks again.

Docker's token protocol (distribution: docs/spec/auth): a 401 names a token server, the realm, which gives a token for
scopes such as `repository:acme/x:pull`, to anyone or to an account.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from adaptr.errors import AuthError, shown
from adaptr.registry.client import address, challenge, pins, redaction
from adaptr.registry.client.challenge import Challenge
from adaptr.registry.client.credentials import Credential, find
from adaptr.registry.client.http import Answer, exchange
from adaptr.registry.client.retry import retried

if TYPE_CHECKING:
    from adaptr.registry.client.address import Origin

Scopes = frozenset[str]
#: Seconds that a token lives if its server does not say, and the part of it that is used.
LIFE, USED = 60.0, 0.8


def scope(repository: str, *actions: str) -> str:
    return f"repository:{repository}:{','.join(actions)}"


def joined(scopes: Iterable[str]) -> Scopes:
    """The same scopes, one for each thing that they are about."""
    actions: dict[str, set[str]] = {}
    for one in scopes:
        what, _, said = one.rpartition(":")
        actions.setdefault(what, set()).update(said.split(","))
    return frozenset(f"{what}:{','.join(sorted(said))}" for what, said in actions.items())


@dataclass(frozen=True)
class Token:
    value: str
    until: float

    def __repr__(self) -> str:
        return "Token(...)"


class Auth:
    """What to say to the registry `base`, called `host` by people, to do what scopes stand for."""

    def __init__(self, base: Origin, host: str, credential: Credential | None = None) -> None:
        self.base, self.host = base, host
        self._given = credential
        self._agreed: Origin | None = None
        self._asked: Challenge | None = None
        self._tokens: dict[tuple[str, str, Scopes], Token] = {}
        self._lock = threading.Lock()

    def try_out(self, credential: Credential, realm: Origin | None) -> None:
        """Be somebody else from now on, and trust a token server that somebody was just shown."""
        with self._lock:
            self._given, self._agreed = credential, realm
            self._tokens.clear()

    def credential(self, scopes: Scopes) -> Credential | None:
        """The account that is used for these scopes; None for anybody's."""
        named = next((part.split(":")[1] for part in sorted(scopes) if part.startswith("repository:")), "")
        return self._given or find(self.host, named)

    def account(self, scopes: Scopes) -> str:
        """How to call who we are, in a message."""
        known = self.credential(scopes)
        if known is None:
            return ""
        return known.user or "the one of a token"

    @property
    def realm(self) -> Origin | None:
        """The token server that the registry names, once it did."""
        if self._asked is None or self._asked.scheme != "bearer":
            return None
        return address.origin(self._asked.parameters.get("realm", ""))

    def header(self, scopes: Scopes) -> dict[str, str]:
        """The header that says who we are, {} as long as nobody asked."""
        with self._lock:
            if self._asked is None:
                return {}
            known = self.credential(scopes)
            if self._asked.scheme == "basic":
                return {"Authorization": self._basic(known)} if known else {}
            if known:  # so is what a token server gives for an account
                _require_private(self.base, "a token")
            if known and known.bearer:
                return {"Authorization": f"Bearer {known.bearer}"}
            return {"Authorization": f"Bearer {self._token(self._asked, scopes, known)}"}

    def meet(self, answer: Answer, scopes: Scopes, sent: Mapping[str, str]) -> bool:
        """Learn from a 401; whether it is worth to ask again."""
        if answer.origin != self.base:
            return False
        found = {c.scheme: c for c in challenge.parse(answer.response.headers.get_list("www-authenticate"))}
        asked = found.get("bearer") or found.get("basic")
        if asked is None:
            return False
        with self._lock:
            if sent and (asked.scheme == "basic" or asked.parameters.get("error") == "insufficient_scope"):
                return False
            self._asked = asked
            if sent:  # it has had its day, or another process's clock is wrong: once more
                self._tokens.clear()
        known = self.credential(scopes)
        return known is not None if asked.scheme == "basic" else not (sent and known and known.bearer)

    def _basic(self, known: Credential) -> str:
        _require_private(self.base, "a password")
        return known.basic

    def _token(self, asked: Challenge, scopes: Scopes, known: Credential | None) -> str:
        wanted = joined([*scopes, *asked.parameters.get("scope", "").split()])
        key = (asked.parameters.get("realm", ""), asked.parameters.get("service", ""), scopes)
        token = self._tokens.get(key)
        if token is None or token.until < time.monotonic():
            token = self._tokens[key] = retried(lambda: self._fetched(asked, wanted, known))
        return token.value

    def _fetched(self, asked: Challenge, scopes: Scopes, known: Credential | None) -> Token:
        url = asked.parameters.get("realm", "")
        realm = address.origin(url)
        pins.require_plausible(self.base, realm)
        if known is not None:
            _require_private(realm, "a password")
            self._require_pinned(realm)
        service = [("service", asked.parameters["service"])] if "service" in asked.parameters else []
        if known is not None and known.identity:
            return self._exchanged(url, realm, [*service, ("scope", " ".join(sorted(scopes)))], known)
        query = [*service, *(("scope", one) for one in sorted(scopes))]
        query += [("account", known.user)] if known else []
        headers = {"Authorization": known.basic} if known else {}
        with exchange("GET", f"{url}{'&' if '?' in url else '?'}{urlencode(query)}", headers) as answer:
            return self._taken(answer, realm, known)

    def _exchanged(self, url: str, realm: Origin, form: list[tuple[str, str]], known: Credential) -> Token:
        """A token for an identity token, by OAuth2."""
        said = [("grant_type", "refresh_token"), ("refresh_token", known.identity), ("client_id", "adaptr"), *form]
        redaction.keep(known.identity)
        body = urlencode(said).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        with exchange("POST", url, headers, lambda: [body]) as answer:
            return self._taken(answer, realm, known)

    def _taken(self, answer: Answer, realm: Origin, known: Credential | None) -> Token:
        answer.require_lasting()
        if answer.status != 200:
            who = f"the account `{shown(known.user)}`" if known else "anybody without an account"
            raise AuthError(
                f"`{realm}`, which gives the tokens for `{self.host}`, refuses {who} ({answer.status})",
                hint=f"log in with `adaptr login {self.host}`",
            )
        said = answer.json()
        value, life = said.get("token") or said.get("access_token"), said.get("expires_in", LIFE)
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise AuthError(f"`{realm}` gives no token", hint="log in again with `adaptr login`")
        seconds = float(life) if isinstance(life, int | float) and life > 0 else LIFE
        redaction.keep(value)
        return Token(value, time.monotonic() + USED * seconds)

    def _require_pinned(self, realm: Origin) -> None:
        if realm != self._agreed and not pins.allowed(self.base, realm):
            raise AuthError(
                f"`{self.host}` wants the password to go to `{realm}`, another server, which was never agreed on",
                hint=f"if that is right, `adaptr login {self.host}` agrees to it",
            )


def _require_private(place: Origin, secret: str) -> None:
    """Raises `AuthError` where others could read a secret on its way, whatever somebody said of the host."""
    if not address.private(place):
        raise AuthError(f"`{place}` wants {secret}, and is not encrypted: not sent", hint="use `https://`")
