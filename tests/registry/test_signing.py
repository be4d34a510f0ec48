"""Signatures of folders, files and artifacts: whose, of what, and each way in which they can be wrong."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from adaptr.artifacts import handling, trust
from adaptr.errors import DigestMismatch, InputError, OutputExists, SignatureError, UsageError
from adaptr.registry import terms
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.signing import artifact, bundle, disk, keys
from adaptr.registry.signing.bundle import Signer, Trust
from adaptr.registry.signing.statement import Statement
from adaptr.registry.store import Store

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
CURVES = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}
DAY = timedelta(days=1)
VECTOR = Path(__file__).resolve().parents[2] / "registry_spec/vectors/valid/minimal_lora.safetensors"


def no_password() -> str:
    raise AssertionError("nobody should ask")


def key(path: Path, bits: int = 256, password: bytes = b"") -> tuple[Path, Path]:
    """A private key's file, and its public half's."""
    made = ec.generate_private_key(CURVES[bits]())
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(made.private_bytes(PEM, PKCS8, lock))
    public = path.with_suffix(".pub")
    public.write_bytes(made.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path, public


@pytest.fixture
def mine(tmp_path: Path) -> tuple[Path, Path]:
    return key(tmp_path / "mine.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "m"
    (root / "sub").mkdir(parents=True)
    for name in ("a.safetensors", "sub/b.json", "sub.txt"):
        (root / name).write_text(name)
    return root


def sign(path: Path, private: Path, **more: Any) -> trust.Signed:
    return trust.sign(str(path), private, password=no_password, **more)


@pytest.mark.parametrize("bits", CURVES)
def test_a_folder_is_signed_and_verified(folder: Path, tmp_path: Path, bits: int) -> None:
    private, public = key(tmp_path / "k.key", bits)
    made = sign(folder, private)
    assert made.out == str(folder / "model.sig")
    proven = trust.verify(str(folder), [public])
    assert (proven.files, proven.signers[0]["key"]) == (3, made.fingerprint)
    assert proven.signers[0]["certificate"] == ""


def test_the_same_content_and_key_give_the_same_signature(folder: Path, mine: tuple[Path, Path]) -> None:
    sign(folder, mine[0])
    first = (folder / "model.sig").read_bytes()
    with pytest.raises(OutputExists):
        sign(folder, mine[0])
    sign(folder, mine[0], force=True)
    assert (folder / "model.sig").read_bytes() == first


def test_a_file_may_be_renamed_but_not_changed(folder: Path, mine: tuple[Path, Path]) -> None:
    file = folder / "a.safetensors"
    sign(file, mine[0])
    moved = file.rename(folder / "b.safetensors")
    signature = folder / "a.safetensors.sig"
    assert trust.verify(str(moved), [mine[1]], (), signature).files == 1
    moved.write_text("else")
    with pytest.raises(SignatureError, match="changed since"):
        trust.verify(str(moved), [mine[1]], (), signature)


def change(folder: Path) -> None:
    (folder / "sub/b.json").write_text("sub/b.jsoN")


def add(folder: Path) -> None:
    (folder / "sub/more.py").write_text("")


def remove(folder: Path) -> None:
    (folder / "sub.txt").unlink()


def rename(folder: Path) -> None:
    (folder / "sub.txt").rename(folder / "sub/txt")


def link(folder: Path) -> None:
    (folder / "sub.txt").rename(folder.parent / "away")
    (folder / "sub.txt").symlink_to(folder.parent / "away")


def link_folder(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "away")
    (folder / "sub").symlink_to(folder.parent / "away")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (change, "`sub/b.json` changed since"),
        (add, "`sub/more.py` there and not signed"),
        (remove, "`sub.txt` signed and not there"),
        (rename, "`sub.txt` signed and not there; `sub/txt` there and not signed"),
        (link, "is a link"),
        (link_folder, "is a link"),
        (fifo, "is a link or no file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_changed_is_named(folder: Path, mine: tuple[Path, Path], harm: Callable[[Path], None], said: str) -> None:
    sign(folder, mine[0])
    harm(folder)
    with pytest.raises((SignatureError, InputError), match=said):
        trust.verify(str(folder), [mine[1]])


def test_git_and_the_signature_itself_are_no_part_of_it(folder: Path, mine: tuple[Path, Path]) -> None:
    sign(folder, mine[0])
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("")
    (folder / ".gitattributes").write_text("")
    trust.verify(str(folder), [mine[1]])
    (folder / "sub/.gitattributes").write_text("")
    with pytest.raises(SignatureError, match="not signed"):
        trust.verify(str(folder), [mine[1]])


def test_another_key_is_refused_and_one_of_several_is_enough(
    folder: Path, mine: tuple[Path, Path], tmp_path: Path
) -> None:
    other = key(tmp_path / "other.key", 384)
    sign(folder, mine[0])
    with pytest.raises(SignatureError, match="not by a trusted key"):
        trust.verify(str(folder), [other[1]])
    trust.verify(str(folder), [other[1], mine[1]])
    with pytest.raises(UsageError, match="whom you trust"):
        trust.verify(str(folder))


def test_what_is_not_signed_is_said(folder: Path, mine: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match="not signed"):
        trust.verify(str(folder), [mine[1]])


# ---------------------------------------------------------------- bundles that were tampered with


def edited(raw: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(raw)
    edit(document)
    return json.dumps(document).encode()


def payload(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        envelope = document["dsseEnvelope"]
        inner = edited(base64.b64decode(envelope["payload"]), edit)
        envelope["payload"] = base64.b64encode(inner).decode()

    return change


ENVELOPES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other-media-type": (lambda d: d.update(mediaType="application/json"), "wanted"),
    "no-envelope": (lambda d: d.pop("dsseEnvelope"), "no DSSE envelope"),
    "no-material": (lambda d: d.pop("verificationMaterial"), "no DSSE envelope or no"),
    "other-payload-type": (lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), "is signed, wanted"),
    "two-signatures": (lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "AA=="}), "exactly one"),
    "no-signature": (lambda d: d["dsseEnvelope"].update(signatures=[]), "exactly one"),
    "not-base64": (lambda d: d["dsseEnvelope"].update(payload="?"), "base64"),
    "number-as-payload": (lambda d: d["dsseEnvelope"].update(payload=1), "base64"),
    "empty-signature": (lambda d: d["dsseEnvelope"]["signatures"][0].update(sig=""), "not by a trusted key"),
    "other-file": (payload(lambda p: p["predicate"]["resources"][0].update(digest="0" * 64)), "not by a trusted key"),
    "other-name": (payload(lambda p: p["subject"][0].update(name="x")), "not by a trusted key"),
    "same-meaning-other-bytes": (payload(lambda p: None), "not by a trusted key"),
    "no-chain": (lambda d: d["verificationMaterial"].update(x509CertificateChain={"certificates": []}), "certificates"),
    "bad-chain": (
        lambda d: d["verificationMaterial"].update(x509CertificateChain={"certificates": [{"rawBytes": "AAAA"}]}),
        "certificate that is none",
    ),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_a_bundle_that_was_changed_is_refused(mine: tuple[Path, Path], name: str) -> None:
    edit, said = ENVELOPES[name]
    raw = bundle.sign(Statement("m", {"a": "1" * 64}), Signer(keys.private(mine[0], no_password)))
    believed = Trust((keys.public(mine[1]),))
    assert bundle.verify(raw, believed).statement.files == {"a": "1" * 64}
    with pytest.raises(SignatureError, match=said):
        bundle.verify(edited(raw, edit), believed)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a":1,"a":2}', b"{" * 10000, b"\xff", b" " * (bundle.MAX + 1)])
def test_what_is_no_bundle_is_refused(mine: tuple[Path, Path], raw: bytes) -> None:
    with pytest.raises(SignatureError):
        bundle.verify(raw, Trust((keys.public(mine[1]),)))


def forged(signer: Signer, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """A right signature, by a trusted key, of a statement that is wrong."""

    class Wrong(Statement):
        def payload(self) -> bytes:
            return edited(super().payload(), edit)

    return bundle.sign(Wrong("m", {"a": "1" * 64, "b": "2" * 64}), signer)


STATEMENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other-predicate": (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "something else"),
    "other-type": (lambda s: s.update(_type="x"), "is no `https"),
    "two-subjects": (lambda s: s["subject"].append({}), "one subject"),
    "other-root": (lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), "contradicts itself"),
    "no-root": (lambda s: s["subject"][0].pop("digest"), "contradicts itself"),
    "pieces": (lambda s: s["predicate"]["serialization"].update(method="shards"), "in pieces"),
    "other-hash": (lambda s: s["predicate"]["resources"][0].update(algorithm="blake2b"), "another digest"),
    "short-digest": (lambda s: s["predicate"]["resources"][0].update(digest="11"), "no digest"),
    "no-files": (lambda s: s["predicate"].update(resources=[]), "no files"),
    "twice": (lambda s: s["predicate"]["resources"][1].update(name="a"), "signed twice"),
    "odd-claims": (lambda s: s["predicate"].update(adaptr={"base": 1}), "text to text"),
    "no-predicate": (lambda s: s.pop("predicate"), "one subject"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_signed_statement_that_is_not_understood_is_refused(mine: tuple[Path, Path], name: str) -> None:
    edit, said = STATEMENTS[name]
    raw = forged(Signer(keys.private(mine[0], no_password)), edit)
    with pytest.raises(SignatureError, match=said):
        bundle.verify(raw, Trust((keys.public(mine[1]),)))


# ---------------------------------------------------------------- keys


def test_a_password_is_asked_only_for_a_key_that_has_one(folder: Path, tmp_path: Path) -> None:
    private, public = key(tmp_path / "locked.key", 256, b"secret")
    trust.sign(str(folder), private, password=lambda: "secret")
    trust.verify(str(folder), [public])
    with pytest.raises(InputError, match="password is another") as caught:
        trust.sign(str(folder), private, password=lambda: "wrong-guess", force=True)
    assert "wrong-guess" not in str(caught.value)


def test_keys_that_are_none_are_named(tmp_path: Path, mine: tuple[Path, Path]) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ed").write_bytes(other.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    (tmp_path / "long").write_bytes(b" " * (keys.MAX + 1))
    (tmp_path / "text").write_text("no key")
    for name, said in {
        "ed": "P-256",
        "long": "longer than",
        "text": "no private key",
        "absent": "there is no file",
    }.items():
        with pytest.raises(InputError, match=said):
            keys.private(tmp_path / name, no_password)
    with pytest.raises(InputError, match="is a private key"):
        keys.public(mine[0])
    with pytest.raises(InputError, match="no public key"):
        keys.public(tmp_path / "text")


def test_a_fingerprint_is_what_openssl_says(mine: tuple[Path, Path]) -> None:
    raw = subprocess.run(["sha256sum", mine[1]], capture_output=True, text=True, check=True).stdout
    assert raw.split()[0] == keys.fingerprint(keys.public(mine[1]))


# ---------------------------------------------------------------- certificates

Pair = tuple[Any, x509.Certificate]


def issued(name: str, by: Pair | None = None, ca: bool = True, **more: Any) -> Pair:
    private = more.get("key") or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[1].subject if by else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + more.get("start", -DAY))
        .not_valid_after(now + more.get("end", DAY))
        .add_extension(x509.BasicConstraints(ca, more.get("length")), critical=True)
    )
    if not ca:
        purpose = more.get("purpose", ExtendedKeyUsageOID.CODE_SIGNING)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    for extension in more.get("also", ()):
        builder = builder.add_extension(extension, critical=True)
    return private, builder.sign(by[0] if by else private, hashes.SHA256())


def pem(path: Path, *chain: Pair) -> Path:
    path.write_bytes(b"".join(one[1].public_bytes(PEM) for one in chain))
    return path


def secret(path: Path, pair: Pair) -> Path:
    path.write_bytes(pair[0].private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    return path


def test_a_chain_leads_from_the_signer_to_what_is_trusted(folder: Path, tmp_path: Path) -> None:
    root = issued("root")
    between = issued("between", root, length=0)
    leaf = issued("Acme", between, ca=False)
    made = sign(folder, secret(tmp_path / "k", leaf), certificate=pem(tmp_path / "c", leaf, between))
    assert made.certificate == "CN=Acme"
    proven = trust.verify(str(folder), (), [pem(tmp_path / "root", root)])
    assert proven.signers[0] == {"key": made.fingerprint, "certificate": "CN=Acme"}
    with pytest.raises(SignatureError, match="leads to none that is trusted"):
        trust.verify(str(folder), (), [pem(tmp_path / "other", issued("root"))])
    assert trust.verify(str(folder), [pem(tmp_path / "leaf", leaf)]).signers[0]["certificate"] == "CN=Acme"


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
        trust.verify(str(folder), (), [pem(tmp_path / "root", root)])


def test_a_certificate_of_another_key_signs_nothing(folder: Path, tmp_path: Path, mine: tuple[Path, Path]) -> None:
    root = issued("root")
    leaf = issued("Acme", root, ca=False)
    with pytest.raises(InputError, match="another key"):
        sign(folder, mine[0], certificate=pem(tmp_path / "c", leaf))
    signer = Signer(keys.private(mine[0], no_password))
    object.__setattr__(signer, "chain", (leaf[1],))
    (folder / "model.sig").write_bytes(disk.sign(folder, signer, folder / "model.sig"))
    with pytest.raises(SignatureError, match="by the key of its certificate"):
        trust.verify(str(folder), (), [pem(tmp_path / "root", root)])


def test_a_bare_key_is_nothing_where_certificates_are_trusted(folder: Path, tmp_path: Path, mine: tuple) -> None:
    sign(folder, mine[0])
    with pytest.raises(SignatureError, match="bare key"):
        trust.verify(str(folder), (), [pem(tmp_path / "root", issued("root"))])


# ---------------------------------------------------------------- artifacts


def put(store: Store, name: str = "", **annotations: str) -> Manifest:
    config = Descriptor(terms.MODEL_CONFIG, store.add_bytes(b"{}"), 2)
    layers = []
    for file, data in {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}.items():
        notes = {terms.TITLE: file, terms.FILEPATH: file}
        layers.append(Descriptor(terms.WEIGHTS_LAYER, store.add_bytes(data), len(data), notes))
    said = {terms.BASE_MODEL: "acme/base@1", terms.TITLE: "style", terms.VERSION: "1.2", **annotations}
    made = Manifest.make(config, layers, terms.MODEL_ARTIFACT, said)
    store.put(made, name)
    return made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTR_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    return Store.default()


def test_an_artifact_is_signed_where_it_is(home: Store, mine: tuple[Path, Path]) -> None:
    made = put(home, "style:1")
    signed = trust.sign("style:1", mine[0], password=no_password)
    proven = trust.verify("style:1", [mine[1]])
    assert proven.claims == {"manifest": made.digest, "base": "acme/base@1", "name": "style", "version": "1.2"}
    assert signed.files.keys() == {"adapter_model.safetensors", "adapter_config.json"}
    (carrier,) = home.referrers(made.digest)
    assert carrier.digest == signed.signature
    assert carrier.artifact_type == carrier.layers[0].media_type == terms.BUNDLE
    assert carrier.config.media_type == terms.OCI_EMPTY
    assert carrier.annotations == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://model_signing/signature/v1.0",
    }
    assert trust.sign("style:1", mine[0], password=no_password).signature == signed.signature
    assert len(home.referrers(made.digest)) == 1


def test_the_bundle_of_an_artifact_fits_the_folder_it_is_written_to(
    home: Store, mine: tuple[Path, Path], tmp_path: Path
) -> None:
    made = put(home, "style:1")
    trust.sign("style:1", mine[0], out=tmp_path / "s.sig", password=no_password)
    (tmp_path / "out").mkdir()
    home.export(made.digest, tmp_path / "out")
    assert trust.verify(str(tmp_path / "out"), [mine[1]], (), tmp_path / "s.sig").files == 2
    assert trust.verify("style:1", [mine[1]], (), tmp_path / "s.sig").files == 2


def test_a_signature_of_another_artifact_proves_nothing(home: Store, mine: tuple[Path, Path]) -> None:
    """The same files under other words: the files are right, and what is said of them is not what was signed."""
    signed, other = put(home, "style:1"), put(home, "style:2", **{terms.BASE_MODEL: "evil/base@1"})
    _, raw = artifact.sign(signed, home, Signer(keys.private(mine[0], no_password)))
    config = Descriptor(terms.OCI_EMPTY, home.add_bytes(b"{}"), 2)
    layer = Descriptor(terms.BUNDLE, home.add_bytes(raw), len(raw))
    home.put(Manifest.make(config, [layer], terms.BUNDLE, {}, other.descriptor))
    with pytest.raises(SignatureError, match="the artifact is not"):
        trust.verify("style:2", [mine[1]])
    trust.verify("style:1", [mine[1]])


def test_one_right_signature_among_wrong_ones_is_enough(home: Store, mine: tuple[Path, Path], tmp_path: Path) -> None:
    put(home, "style:1")
    trust.sign("style:1", key(tmp_path / "other.key")[0], password=no_password)
    with pytest.raises(SignatureError, match="none that is right"):
        trust.verify("style:1", [mine[1]])
    trust.sign("style:1", mine[0], password=no_password)
    assert len(trust.verify("style:1", [mine[1]]).signers) == 1


def test_a_blob_that_was_changed_in_the_store_is_found(home: Store, mine: tuple[Path, Path]) -> None:
    made = put(home, "style:1")
    trust.sign("style:1", mine[0], password=no_password)
    blob = home.root / "blobs/sha256" / made.layers[0].digest.hex
    blob.chmod(0o644)
    blob.write_bytes(b"wEights")
    with pytest.raises(DigestMismatch):
        trust.verify("style:1", [mine[1]])


def test_signatures_need_neither_torch_nor_numpy() -> None:
    code = "import sys, adaptr.artifacts.trust as t; print('torch' in sys.modules, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_a_link_to_nowhere_is_never_taken_for_a_name(
    mine: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another artifact would be signed, or proven, in its place."""
    monkeypatch.chdir(tmp_path)
    handling.tag(str(VECTOR), "style")
    sign(Path("style"), mine[0])
    Path("style").symlink_to("nowhere")
    with pytest.raises(InputError):
        sign(Path("style"), mine[0])
    with pytest.raises((InputError, SignatureError)):
        trust.verify("style", [mine[1]])
