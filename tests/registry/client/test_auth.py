"""Accounts and tokens against real registries: passwords, a token server, TLS."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr.registry import hub
from adaptr.registry.client import auth, http, login, pins
from adaptr.registry.client import registry as client
from adaptr.registry.client.address import origin
from adaptr.registry.reference import Reference, parse
from adaptr.registry.remotes import Remote
from adaptr.registry.store import Store
from registry.conftest import Made
from registry.servers.certificates import Pair
from registry.servers.faults import fault_server
from registry.servers.registry import DockerRegistry
from registry.servers.token import IDENTITY, TokenServer


@pytest.fixture(autouse=True)
def fresh(tokens: TokenServer) -> None:
    tokens.asked.clear()
    tokens.denied.clear()
    tokens.life = 60


def at(registry: DockerRegistry, repository: str) -> Reference:
    return parse(f"oci://{registry.host}/{repository}:latest")


def entered(host: str, user: str, secret: str) -> login.LoggedIn:
    found = login.login(login.door(host), user, secret)
    client.connected.cache_clear()
    return found


def test_a_password(
    oci: Remote, locked: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest, where = made(store), at(locked, repository)
    with pytest.raises(e.AuthError, match=rf"`{locked.host}` shows .*adaptr login {locked.host}"):
        oci.push(store, digest, where)
    with pytest.raises(e.AuthError, match="does not accept the account `alice`; nothing was kept"):
        entered(locked.host, "alice", "wrong")
    found = entered(locked.host, "alice", "s3cret")
    assert (found.checked_at, found.tested) == (f"http://{locked.host}", True)
    oci.push(store, digest, where)
    assert oci.pull(where, other) == digest


def test_tls_wants_a_certificate_that_somebody_vouches_for(
    oci: Remote, tls: DockerRegistry, repository: str, store: Store, other: Store, made: Made, pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    digest, where = made(store), at(tls, repository)
    with pytest.raises(e.RegistryError, match="SSL_CERT_FILE"):
        oci.push(store, digest, where)
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
    http.close()
    try:
        found = entered(tls.host, "alice", "s3cret")
        assert found.checked_at == f"https://{tls.host}"
        oci.push(store, digest, where)
        assert oci.pull(where, other) == digest
    finally:
        http.close()


def test_a_token_server(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest, where = made(store), at(bearer, repository)
    found = entered(bearer.host, "alice", "s3cret")
    assert found.checked_at == str(origin(tokens.realm))
    tokens.asked.clear()
    oci.push(store, digest, where)
    pushes = f"repository:{repository}:pull,push"
    assert tokens.asked == [("alice", pushes)]  # once for all its requests
    oci.pull(where, other)
    assert set(tokens.asked[1:]) == {("alice", f"repository:{repository}:pull")}


def test_nobody_may_pull_what_is_public(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest, where = made(store), at(bearer, f"public/{repository}")
    entered(bearer.host, "alice", "s3cret")
    oci.push(store, digest, where)
    login.logout(bearer.host)
    client.connected.cache_clear()
    tokens.asked.clear()
    assert oci.pull(where, other) == digest
    assert {user for user, _ in tokens.asked} == {""}
    with pytest.raises(e.AuthError, match=f"adaptr login {bearer.host}"):
        oci.push(store, digest, where)


def test_who_may_not_push_is_told_what_was_wanted(
    oci: Remote, bearer: DockerRegistry, repository: str, store: Store, made: Made
) -> None:
    entered(bearer.host, "bob", "builder")
    with pytest.raises(e.AuthError) as caught:
        oci.push(store, made(store), at(bearer, repository))
    for part in (bearer.host, "bob", repository, "push", "adaptr login"):
        assert part in str(caught.value)


def test_a_token_is_renewed_before_it_ends(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, made: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    entered(bearer.host, "alice", "s3cret")
    tokens.asked.clear()
    monkeypatch.setattr(auth, "USED", 0.0)
    oci.push(store, made(store), at(bearer, repository))
    assert len(tokens.asked) > 3


def test_a_token_that_ended_is_replaced_once(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, made: Made
) -> None:
    entered(bearer.host, "alice", "s3cret")
    oci.push(store, made(store), at(bearer, repository))
    known = client.connected(bearer.host).auth
    for key in known._tokens:
        known._tokens[key] = auth.Token("stale", known._tokens[key].until)
    oci.push(store, made(store), at(bearer, repository))


def test_a_token_server_that_stumbles(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, made: Made
) -> None:
    entered(bearer.host, "alice", "s3cret")
    tokens.broken = [503, 429]
    oci.push(store, made(store), at(bearer, repository))
    assert tokens.broken == []


def test_an_identity_token(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, made: Made, own_home: Path
) -> None:
    config = own_home / "docker" / "config.json"
    config.parent.mkdir()
    entry = {"auth": base64.b64encode(b"00000000-0000:").decode(), "identitytoken": IDENTITY}
    config.write_text(json.dumps({"auths": {bearer.host: entry}}))
    pins.pin(origin(f"http://{bearer.host}"), origin(tokens.realm))
    oci.push(store, made(store), at(bearer, repository))


def test_a_mount_without_permission_is_an_upload(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, other: Store, made: Made
) -> None:
    entered(bearer.host, "alice", "s3cret")
    digest = made(store)
    oci.push(store, digest, at(bearer, repository))
    oci.pull(at(bearer, repository), other)
    tokens.denied.add(f"repository:{repository}:pull")
    pushed = oci.push(other, digest, at(bearer, f"{repository}-copy"))
    assert pushed.uploaded == other.manifest(digest).size


def test_a_password_goes_to_a_server_that_was_shown_only(
    oci: Remote, bearer: DockerRegistry, tokens: TokenServer, repository: str, store: Store, made: Made, own_home: Path
) -> None:
    """Docker's file has the password, but nobody agreed that it goes to another server."""
    config = own_home / "docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"auths": {bearer.host: {"username": "alice", "password": "s3cret"}}}))
    with pytest.raises(e.AuthError, match=f"adaptr login {bearer.host}"):
        oci.push(store, made(store), at(bearer, repository))
    assert tokens.asked == []
    entered(bearer.host, "alice", "s3cret")
    oci.push(store, made(store), at(bearer, repository))
    login.logout(bearer.host)
    assert not pins.allowed(origin(f"http://{bearer.host}"), origin(tokens.realm))


@pytest.mark.parametrize(
    ("base", "realm", "fine"),
    [
        ("https://registry.example", "https://auth.example/token", True),
        ("https://registry.example", "https://registry.example/token", True),
        ("https://registry.example", "http://registry.example/token", False),
        ("https://registry.example", "https://10.0.0.1/token", False),
        ("https://registry.example", "https://127.0.0.1/token", False),
        ("https://registry.example", "https://[::1]/token", False),
        ("https://registry.example", "https://[::ffff:169.254.169.254]/token", False),
        ("https://10.0.0.1", "https://10.0.0.1:8443/token", True),
        ("http://127.0.0.1:5000", "http://127.0.0.1:6000/token", True),
    ],
)
def test_plausible_token_servers(base: str, realm: str, fine: bool) -> None:
    if fine:
        pins.require_plausible(origin(base), origin(realm))
    else:
        with pytest.raises(e.AuthError, match="refused"):
            pins.require_plausible(origin(base), origin(realm))


def test_the_token_servers_of_old_standing() -> None:
    assert pins.allowed(origin("https://registry-1.docker.io"), origin("https://auth.docker.io/token"))
    assert not pins.allowed(origin("https://registry-1.docker.io"), origin("https://auth.docker.io.evil.example"))
    assert not pins.allowed(origin("https://registry.example"), origin("https://auth.docker.io"))


def test_no_password_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    known = auth.Auth(origin("http://registry.example"), "registry.example")
    known._asked = auth.Challenge("basic", {})
    known.try_out(login.Credential("alice", "s3cret"), None)
    with pytest.raises(e.AuthError, match="not encrypted"):
        known.header(frozenset())


BEARER = auth.Challenge("bearer", {"realm": "http://realm.test/token"})
HERE = auth.Challenge("bearer", {"realm": "http://127.0.0.1:9/token"})


@pytest.mark.parametrize(
    ("base", "asked", "known"),
    [
        ("http://far.test", auth.Challenge("basic", {}), login.Credential("alice", "SECRET")),
        ("http://far.test", BEARER, login.Credential("alice", "SECRET")),
        ("http://far.test", BEARER, login.Credential("", identity="SECRET")),
        ("http://far.test", BEARER, login.Credential("", bearer="SECRET")),
        ("http://far.test", HERE, login.Credential("alice", "SECRET")),
        ("http://127.0.0.1:9", BEARER, login.Credential("alice", "SECRET")),
        ("http://127.0.0.1:9", BEARER, login.Credential("", identity="SECRET")),
    ],
)
def test_nothing_secret_goes_over_an_unencrypted_connection(
    base: str, asked: auth.Challenge, known: login.Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the challenge, and whatever somebody said of the host."""
    monkeypatch.setenv("ADAPTR_PLAIN_HTTP", "far.test realm.test")
    who = auth.Auth(origin(base), "far.test", known)
    who.try_out(known, origin("http://realm.test"))
    who._asked = asked
    with pytest.raises(e.AuthError, match="not encrypted"):
        who.header(frozenset({auth.scope("a", "pull")}))


def test_the_hub_hears_no_account_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "SECRET")
    monkeypatch.setenv("ADAPTR_PLAIN_HTTP", "mirror.test")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.test")
    assert hub._who() == {}
    assert hub.api().token is False
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub._who() == {"Authorization": "Bearer SECRET"}


def test_secrets_stay_out_of_logs(
    oci: Remote, bearer: DockerRegistry, repository: str, store: Store, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    """With everything logged, and with an error: no password, no token, no query."""
    caplog.set_level(logging.DEBUG)
    with fault_server(bearer.host) as faulty:
        entered(faulty.host, "alice", "s3cret")
        faulty.add("PUT .*/blobs/", "header:Location=https://user:CANARY@x.example/y?X-Amz-Signature=CANARY", 1)
        oci.push(store, made(store), parse(f"oci://{faulty.host}/{repository}:latest"))
        faulty.add("HEAD", "status:403", 1)
        with pytest.raises(e.AuthError) as caught:
            oci.push(store, made(store), parse(f"oci://{faulty.host}/{repository}:latest"))
    secret = base64.b64encode(b"alice:s3cret").decode()
    assert len(caplog.text) > 10_000
    for canary in ("s3cret", secret, "CANARY", "_state=", *(t.value for t in _tokens(faulty.host))):
        assert canary not in caplog.text
        assert canary not in str(caught.value)


def _tokens(host: str) -> list[auth.Token]:
    return list(client.connected(host).auth._tokens.values())
