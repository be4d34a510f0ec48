"""A registry's no, in words that say who was asked, as whom, for what, and the way on."""

from __future__ import annotations

import json

from adaptr.errors import AuthError, NotFound, RegistryError, shown
from adaptr.registry.client.auth import Auth, Scopes
from adaptr.registry.client.http import Answer
from adaptr.registry.client.redaction import without_secrets
from adaptr.untrusted import json_object

#: How much of a registry's own words is shown.
_WORDS = 500
_BODY = 64 << 10


def of(answer: Answer, auth: Auth, what: str, scopes: Scopes) -> RegistryError:
    """The error for an answer that is not the one that was wanted. Reads the body."""
    account, need = auth.account(scopes), " ".join(sorted(scopes))
    words = _words(answer)
    login = f"`adaptr login {auth.host}`"
    if answer.status == 401 and not account:
        return AuthError(
            f"`{auth.host}` shows {what} only to those it knows ({need}){words}", hint=f"log in with {login}"
        )
    if answer.status == 401:
        return AuthError(
            f"`{auth.host}` does not accept the account `{shown(account)}` for {what}{words}",
            hint=f"log in again with {login}",
        )
    if answer.status == 403:
        who = f"the account `{shown(account)}`" if account else "anybody without an account"
        return AuthError(
            f"`{auth.host}` does not let {who} at {what} (scope `{need}`), or it does not exist{words}",
            hint=f"use another account with {login}, or ask the owner",
        )
    if answer.status == 404:
        who = f"to the account `{shown(account)}`" if account else "without an account"
        way = "look at its name, or use another account" if account else f"look at its name; {login} if it is private"
        return NotFound(f"`{auth.host}` has no {what}, or does not show it {who}{words}", hint=way)
    asked = f"`{answer.origin}` answers {answer.status} for {what}{words}"
    return RegistryError(asked, hint="try again later, or tell those who run it")


def _words(answer: Answer) -> str:
    """What the registry says itself, cut and made harmless."""
    try:
        errors = json_object(answer.read(_BODY), "it", RegistryError)["errors"]
        said = "; ".join(f"{e.get('code', '')} {e.get('message', '')} {_detail(e)}".strip() for e in errors)
    except (KeyError, TypeError, AttributeError, RegistryError):
        return ""
    return f". It says: {shown(without_secrets(said), _WORDS)}" if said else ""


def _detail(error: dict[str, object]) -> str:
    detail = error.get("detail")
    return json.dumps(detail)[:200] if detail else ""
