"""What is signed: an in-toto statement of files by digest, and of what their digests do not say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptr.errors import SignatureError, shown
from adaptr.format import canonical
from adaptr.untrusted import json_object

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
#: Where adaptr's own claims are in the predicate; other verifiers ignore it.
CLAIMS = "adaptr"
#: The name of a single file, so that it may be renamed.
ALONE = "."
#: The way on where a signature is not as it must be.
AGAIN = "ask its owner to sign it again"
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Statement:
    """`files`: name to the hexadecimal sha256; `claims`: manifest digest, base, name, version, as far as known.

    `ignored`: paths of the signed folder that are no part of it: the signature, and what git keeps there.
    """

    name: str
    files: Mapping[str, str]
    claims: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def payload(self) -> bytes:
        """The statement as canonical JSON: the same content is the same bytes."""
        resources = [{"name": n, "algorithm": "sha256", "digest": d} for n, d in sorted(self.files.items())]
        how = {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": list(self.ignored),
        }
        predicate: dict[str, Any] = {"resources": resources, "serialization": how}
        if self.claims:
            predicate[CLAIMS] = dict(self.claims)
        subject = {"name": self.name, "digest": {"sha256": _root(resources)}}
        document = {"_type": STATEMENT, "subject": [subject], "predicateType": PREDICATE, "predicate": predicate}
        return canonical.dumps(document).encode()


def parse(payload: bytes) -> Statement:
    """Read a statement whose signature was found right. Raises `SignatureError` for what is not understood whole."""
    document = json_object(payload, "what is signed", SignatureError)
    _require(document.get("_type") == STATEMENT, f"what is signed is no `{STATEMENT}`")
    said = document.get("predicateType")
    _require(said == PREDICATE, f"the signature says `{shown(said)}`, wanted `{PREDICATE}`: it is of something else")
    predicate, subjects = document.get("predicate"), document.get("subject")
    _require(isinstance(predicate, dict) and isinstance(subjects, list) and len(subjects) == 1, "wanted one subject")
    assert isinstance(predicate, dict)
    assert isinstance(subjects, list)
    how = predicate.get("serialization")
    _require(
        isinstance(how, dict) and (how.get("method"), how.get("hash_type")) == ("files", "sha256"),
        "files are signed in pieces or by another hash than sha256, which adaptr does not check",
    )
    files = _files(predicate.get("resources"))
    subject = subjects[0] if isinstance(subjects[0], dict) else {}
    root = subject.get("digest", {}).get("sha256") if isinstance(subject.get("digest"), dict) else None
    _require(root == _root(predicate["resources"]), "the statement contradicts itself: its root digest is another")
    claims = predicate.get(CLAIMS, {})
    _require(
        isinstance(claims, dict) and all(isinstance(value, str) for value in claims.values()),
        f"`{CLAIMS}` must map text to text",
    )
    return Statement(str(subject.get("name", "")), files, claims)


def _files(resources: object) -> dict[str, str]:
    found: dict[str, str] = {}
    listed = resources if isinstance(resources, list) else []
    _require(bool(listed), "no files are signed")
    for one in listed:
        _require(isinstance(one, dict) and one.get("algorithm") == "sha256", "a file has another digest than sha256")
        name, digest = one.get("name"), one.get("digest")
        _require(isinstance(name, str) and isinstance(digest, str) and bool(_HEX.match(digest)), "a file has no digest")
        _require(name not in found, f"the file `{shown(name)}` is signed twice")
        found[name] = digest
    return found


def _root(resources: list[Any]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()


def _require(right: bool, what: str) -> None:
    if not right:
        raise SignatureError(what, hint=AGAIN)


def compare(signed: Mapping[str, str], found: Mapping[str, str], what: str) -> None:
    """Raises `SignatureError` that names the files which changed, are missing or came in addition."""
    changed = sorted(name for name in signed.keys() & found.keys() if signed[name] != found[name])
    parts = {
        "changed since it was signed": changed,
        "signed and not there": sorted(signed.keys() - found.keys()),
        "there and not signed": sorted(found.keys() - signed.keys()),
    }
    said = [f"{', '.join(f'`{shown(n)}`' for n in names[:5])} {how}" for how, names in parts.items() if names]
    if said:
        raise SignatureError(
            f"`{what}` is not what was signed: {'; '.join(said)}",
            hint="get it again, or ask its owner to sign this one",
        )
