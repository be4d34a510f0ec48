"""Certificates: chains that lead to what is trusted, and each way in which they don't."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from adaptr.artifacts import trust
from adaptr.errors import InputError, SignatureError
from adaptr.registry.signing import disk, keys
from adaptr.registry.signing.bundle import Signer
from registry.signers import DAY, Pair, issued, no_password, pem, secret, sign


def test_a_chain_leads_from_the_signer_to_what_is_trusted(folder: Path, tmp_path: Path) -> None:
    root = issued("root")
    between = issued("between", root, length=0)
    leaf = issued("Acme", between, ca=False)
    made = sign(folder, secret(tmp_path / "k", leaf), certificate=pem(tmp_path / "c", leaf, between))
    assert made.certificate == "CN=Acme"
    proven = trust.proven(str(folder), (), [pem(tmp_path / "root", root)])
    assert proven.signers[0] == {"key": made.fingerprint, "certificate": "CN=Acme"}
    with pytest.raises(SignatureError, match="leads to none that is trusted"):
        trust.proven(str(folder), (), [pem(tmp_path / "other", issued("root"))])
    assert trust.proven(str(folder), [pem(tmp_path / "leaf", leaf)]).signers[0]["certificate"] == "CN=Acme"


def chains() -> dict[str, tuple[list[Pair], Pair, str]]:
    root = issued("root")
    short = issued("short", root, length=0)
    constraint = x509.NameConstraints([x509.DNSName("acme.test")], None)
    usage = x509.KeyUsage(False, False, False, False, False, False, True, False, False)
    return {
        "expired": ([issued("a", root, False, start=-2 * DAY, end=-DAY)], root, "not now"),
        "not-yet": ([issued("a", root, False, start=DAY, end=2 * DAY)], root, "not now"),
        "for-servers": ([issued("a", root, False, purpose=ExtendedKeyUsageOID.SERVER_AUTH)], root, "codeSigning"),
        "issued-by-a-leaf": ([issued("a", (b := issued("b", root, False)), False), b], root, "leads to none"),
        "path-too-long": ([issued("a", (c := issued("c", short)), False), c, short], root, "leads to none"),
        "key-usage": ([issued("a", root, False, also=[usage])], root, "key usage"),
        "critical": ([issued("a", (d := issued("d", root, also=[constraint])), False), d], root, "does not check"),
        "expired-root": ([issued("a", (e := issued("e", start=-2 * DAY, end=-DAY)), False)], e, "not now"),
        "missing-link": ([issued("a", issued("gone", root), False)], root, "which is not among them"),
    }


@pytest.mark.parametrize("name", chains())
def test_a_chain_with_a_bad_link_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    chain, root, said = chains()[name]
    signer = Signer(chain[0][0])
    object.__setattr__(signer, "chain", tuple(one[1] for one in chain))  # whoever forges asks nobody
    (folder / "model.sig").write_bytes(disk.sign(folder, signer, folder / "model.sig"))
    with pytest.raises(SignatureError, match=said):
        trust.proven(str(folder), (), [pem(tmp_path / "root", root)])


def test_a_certificate_of_another_key_signs_nothing(folder: Path, tmp_path: Path, mine: tuple[Path, Path]) -> None:
    root = issued("root")
    leaf = issued("Acme", root, ca=False)
    with pytest.raises(InputError, match="another key"):
        sign(folder, mine[0], certificate=pem(tmp_path / "c", leaf))
    signer = Signer(keys.private(mine[0], no_password))
    object.__setattr__(signer, "chain", (leaf[1],))
    (folder / "model.sig").write_bytes(disk.sign(folder, signer, folder / "model.sig"))
    with pytest.raises(SignatureError, match="by the key of its certificate"):
        trust.proven(str(folder), (), [pem(tmp_path / "root", root)])


def test_a_bare_key_is_nothing_where_certificates_are_trusted(folder: Path, tmp_path: Path, mine: tuple) -> None:
    sign(folder, mine[0])
    with pytest.raises(SignatureError, match="bare key"):
        trust.proven(str(folder), (), [pem(tmp_path / "root", issued("root"))])
