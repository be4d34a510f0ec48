"""What this machine asks of artifacts, held against pulling and opening."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import adaptr
from adaptr.artifacts import handling
from adaptr.errors import InputError, PolicyError, StoreUnsafe
from adaptr.registry import remotes, terms
from adaptr.registry.reference import Reference, parse
from adaptr.registry.signing import artifact, certificates, keys, policy
from adaptr.registry.signing.bundle import Signer
from adaptr.registry.store import Store
from adaptr.sources.resolve import resolve
from registry.signers import issued, key, no_password, pem, put

REF = "oci://registry.test/acme/style:1.2"


class Shelf(remotes.Remote):
    """A remote whose one artifact is in the store already."""

    name = "oci"

    def __init__(self, digest: str) -> None:
        self.digest, self.late = digest, lambda store: None

    def resolve(self, reference: Reference) -> str:
        return self.digest

    def pull(self, reference: Reference, store: Store, progress: object = None) -> object:
        self.late(store)
        return store.manifest(self.digest).digest


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTR_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    store = Store.default()
    manifest = put(store)
    shelf = Shelf(manifest.digest)
    monkeypatch.setattr(remotes, "of", lambda scheme: shelf)
    private, public = key(tmp_path / "mine.key")
    signer = Signer(keys.private(private, no_password))
    return SimpleNamespace(
        remote=shelf, store=store, manifest=manifest, signer=signer, public=public, home=tmp_path / "home"
    )


def rule(scope: str = "oci://registry.test/acme/*", mode: str = "enforce", keys: str = "[mine.pub]") -> str:
    return f"- scope: '{scope}'\n  keys: {keys}\n  mode: {mode}\n"


def say(shelf: SimpleNamespace, text: str) -> None:
    (shelf.home / "policy.yaml").write_text(text)
    (shelf.home / "mine.pub").write_bytes(shelf.public.read_bytes())


def test_without_a_policy_nothing_is_asked(shelf: SimpleNamespace) -> None:
    assert adaptr.pull(REF).digest == shelf.manifest.digest


def test_enforcing_refuses_what_is_not_signed_and_names_nothing(shelf: SimpleNamespace) -> None:
    say(shelf, rule())
    with pytest.raises(PolicyError, match=r"wants `oci://registry\.test/acme/style:1\.2` signed"):
        adaptr.pull(REF)
    assert not shelf.store.names()
    with pytest.raises(PolicyError):
        resolve(REF).artifact()
    artifact.sign(shelf.manifest, shelf.store, shelf.signer)
    assert adaptr.pull(REF).digest == shelf.manifest.digest


def test_what_is_here_already_is_held_against_the_policy_too(shelf: SimpleNamespace) -> None:
    adaptr.pull(REF)
    say(shelf, rule())
    for named in (REF, "registry.test/acme/style:1.2", f"oci://registry.test/acme/style@{shelf.manifest.digest}"):
        with pytest.raises(PolicyError):
            resolve(named).artifact()


def test_a_signature_that_came_later_is_asked_for(shelf: SimpleNamespace) -> None:
    adaptr.pull(REF)
    say(shelf, rule())
    shelf.remote.late = lambda store: artifact.sign(shelf.manifest, store, shelf.signer)
    resolve("registry.test/acme/style:1.2").artifact()
    resolve(REF).artifact()


def test_warning_says_it_and_goes_on(shelf: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    say(shelf, rule(mode="warn"))
    with caplog.at_level(logging.WARNING):
        assert adaptr.pull(REF).digest == shelf.manifest.digest
    assert "is not signed" in caplog.text


def test_a_signature_by_somebody_else_is_none(shelf: SimpleNamespace, tmp_path: Path) -> None:
    say(shelf, rule())
    stranger = Signer(keys.private(key(tmp_path / "other.key")[0], no_password))
    artifact.sign(shelf.manifest, shelf.store, stranger)
    with pytest.raises(PolicyError, match="none that is right"):
        adaptr.pull(REF)


def test_fingerprints_stand_for_known_keys(shelf: SimpleNamespace) -> None:
    say(shelf, rule(keys=f"['sha256:{shelf.signer.fingerprint}']"))
    artifact.sign(shelf.manifest, shelf.store, shelf.signer)
    with pytest.raises(PolicyError):
        adaptr.pull(REF)
    (shelf.home / "keys").mkdir()
    (shelf.home / "keys" / "mine.pub").write_bytes(shelf.public.read_bytes())
    adaptr.pull(REF)


def test_a_certificate_is_trusted_by_its_issuer_or_by_its_fingerprint(shelf: SimpleNamespace, tmp_path: Path) -> None:
    root = issued("root")
    leaf = issued("Acme", root, ca=False)
    signer = Signer(leaf[0], tuple(certificates.read(pem(tmp_path / "leaf", leaf))))
    artifact.sign(shelf.manifest, shelf.store, signer)
    pem(shelf.home / "ca.pem", root)
    say(shelf, "- {scope: '*', certificates: [ca.pem]}\n")
    adaptr.pull(REF)
    say(shelf, rule(keys=f"[{signer.fingerprint}]"))
    adaptr.pull(REF)
    pem(shelf.home / "ca.pem", issued("root"))
    say(shelf, "- {scope: '*', certificates: [ca.pem]}\n")
    with pytest.raises(PolicyError):
        adaptr.pull(REF)


@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        ("oci://registry.test/acme/*", True),
        ("oci://registry.test/*", True),
        ("oci://registry.test/acme/style", True),
        ("oci://registry.test/acme/style:1.*", True),
        ("*", True),
        ("oci://registry.test/other/*", False),
        ("hf://*", False),
    ],
)
def test_scopes(shelf: SimpleNamespace, scope: str, fits: bool) -> None:
    say(shelf, rule(scope))
    assert policy.asks(parse(REF)) is fits
    assert policy.asks(parse(REF.replace("registry.test", "Registry.TEST"))) is fits


def test_the_first_rule_that_fits_decides(shelf: SimpleNamespace) -> None:
    say(shelf, rule("oci://registry.test/acme/style", "warn") + rule("*"))
    adaptr.pull(REF)
    with pytest.raises(PolicyError):
        adaptr.pull("oci://registry.test/acme/other:1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "can't be read"),
        ("scope: x", "must be a list"),
        ("- scope: x\n  keys: [a]\n  mod: warn", "mod"),
        ("- scope: x\n  keys: [a]\n  mode: maybe", "enforce or warn"),
        ("- scope: x", "names no keys"),
        ("- keys: [a]", "needs a `scope`"),
        ("- scope: x\n  keys: a", "list of texts"),
        ("- scope: '*'\n  keys: [absent.pub]", "absent.pub"),
        ("- !!python/object/apply:os.system ['true']", "can't be read"),
    ],
)
def test_a_policy_that_is_not_understood_stops_everything(shelf: SimpleNamespace, text: str, said: str) -> None:
    artifact.sign(shelf.manifest, shelf.store, shelf.signer)
    say(shelf, text)
    with pytest.raises(InputError, match=said):
        adaptr.pull(REF)


def test_a_named_policy_must_be_there(shelf: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPTR_POLICY", str(tmp_path / "nonsuch"))
    with pytest.raises(InputError, match="no such file"):
        adaptr.pull(REF)


@pytest.mark.parametrize("before", [[], ["rm"], ["other"]])
def test_another_name_launders_nothing(shelf: SimpleNamespace, before: list[str]) -> None:
    """What was refused stays refused under any name, as long as it is here."""
    shelf.store.put(shelf.manifest, "", REF)  # as a pull leaves it that the policy refused
    if before:
        handling.tag(shelf.manifest.digest, "mine")
    if before == ["rm"]:
        shelf.store.untag("mine")
    if before == ["other"]:
        shelf.store.put(put(shelf.store, name="mine:latest", **{terms.VERSION: "2"}), "mine:latest")
    say(shelf, rule())
    for use in (
        lambda: handling.tag(shelf.manifest.digest, "fresh"),
        lambda: resolve(str(shelf.manifest.digest)).artifact(),
        lambda: handling.push(str(shelf.manifest.digest), "oci://elsewhere.test/a/b:1"),
        lambda: adaptr.pull(f"oci://elsewhere.test/a/b@{shelf.manifest.digest}"),
    ):
        with pytest.raises(PolicyError):
            use()
    artifact.sign(shelf.manifest, shelf.store, shelf.signer)
    handling.tag(shelf.manifest.digest, "fresh")


def test_a_policy_is_read_whole_or_refused(shelf: SimpleNamespace) -> None:
    say(shelf, "#" + "x" * policy.MAX + "\n" + rule())
    with pytest.raises(InputError, match="longer than"):
        adaptr.pull(REF)


def test_a_key_that_is_there_twice_is_refused(shelf: SimpleNamespace) -> None:
    say(shelf, rule() + "  mode: warn\n")
    with pytest.raises(InputError, match="twice"):
        adaptr.pull(REF)


def test_a_policy_that_is_a_pipe_protects_nothing_and_is_not_waited_for(shelf: SimpleNamespace) -> None:
    os.mkfifo(shelf.home / "policy.yaml")
    with pytest.raises(InputError, match="pipe"):
        adaptr.pull(REF)


@pytest.mark.parametrize(
    ("scope", "reference"),
    [
        ("oci://127.0.0.1:5000/*", "oci://localhost:5000/a/b:1"),
        ("oci://localhost:5000/*", "oci://127.0.0.1:5000/a/b:1"),
        ("oci://localhost:5000/*", "oci://[::1]:5000/a/b:1"),
        ("oci://localhost:5000/*", "oci://127.1:5000/a/b:1"),
        ("oci://localhost:5000/*", "oci://2130706433:05000/a/b:1"),
        ("oci://[::1]:5000/a/*", "oci://LOCALHOST:5000/a/b:1"),
        ("oci://docker.io/*", "oci://registry-1.docker.io/a/b:1"),
        ("oci://index.docker.io/a/*", "oci://docker.io/a/b:1"),
        ("oci://Registry.test/*", "oci://registry.test:443/a/b:1"),
        ("oci://registry.test:443/*", "oci://registry.test/a/b:1"),
        ("registry.test/a/*", "oci://registry.test/a/b:1"),
        ("oci://*.test/*", "oci://REGISTRY.test/a/b:1"),
        ("hf://acme/*", "hf://ACME/style"),
        ("https://h.test/a/*", "https://h.test/x/../%61/f#sha256=" + "0" * 64),
        ("file:///data/a/*", "file:///data/b/../a/x"),
    ],
)
def test_one_place_has_one_name(shelf: SimpleNamespace, scope: str, reference: str) -> None:
    say(shelf, rule(scope))
    assert policy.asks(parse(reference))


@pytest.mark.parametrize("scope", ["oci://registry.test:5000/*", "oci://docker.io.test/*", "oci://localhost/*"])
def test_other_places_have_other_names(shelf: SimpleNamespace, scope: str) -> None:
    say(shelf, rule(scope))
    assert not policy.asks(parse("oci://registry.test/a/b:1"))
    assert not policy.asks(parse("oci://127.0.0.1:5000/a/b:1"))


@pytest.mark.parametrize("what", ["policy.yaml", ".", "mine.pub", "keys"])
def test_a_policy_that_others_may_write_is_refused(shelf: SimpleNamespace, what: str) -> None:
    artifact.sign(shelf.manifest, shelf.store, shelf.signer)
    (shelf.home / "keys").mkdir(mode=0o755)
    (shelf.home / "keys" / "mine.pub").write_bytes(shelf.public.read_bytes())
    say(shelf, rule(keys=f"[mine.pub, 'sha256:{shelf.signer.fingerprint}']"))
    adaptr.pull(REF)
    (shelf.home / what).chmod(0o777)
    with pytest.raises(StoreUnsafe, match="written by others"):
        adaptr.pull(REF)
