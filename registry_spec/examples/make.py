"""The worked examples: a vector of the file format, packed, signed, listed and pinned. Writes them beside this file.

`python registry_spec/examples/make.py`. The key is made of a number that everyone knows: it signs examples only.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from adaptr.format import canonical
from adaptr.registry import pack
from adaptr.registry.digest import Digest
from adaptr.registry.signing import artifact
from adaptr.registry.signing.bundle import Signer
from adaptr.registry.store import Store

HERE = Path(__file__).resolve().parent
ADAPTER = HERE.parent / "vectors/valid/minimal_lora.safetensors"
REFERENCE = "oci://registry.example/acme/style:1.0"


def examples(folder: Path) -> dict[str, bytes]:
    """File name to content of every example; `folder` holds the store they are made in."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    store = Store(folder)
    made = pack.stored(ADAPTER, store)
    store.put(made)
    key = ec.derive_private_key(20260101, ec.SECP256R1())
    signature, bundle = artifact.sign(made, store, Signer(key))
    row = {"reference": REFERENCE, "digest": str(made.digest), "annotations": dict(made.annotations)}
    pin = {"digest": str(made.digest), "source": f"{REFERENCE}@{made.digest}"}
    found = {
        "adapter.manifest.json": made.raw,
        "adapter.config.json": store.read(made.config.digest),
        "signature.manifest.json": signature.raw,
        "signature.bundle.json": bundle,
        "signature.pub": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "index.json": canonical.dumps({"version": 1, "artifacts": [row]}).encode(),
        "adaptr.lock": (json.dumps({"version": 1, "artifacts": {REFERENCE: pin}}, indent=2) + "\n").encode(),
        "policy.yaml": b'- scope: "oci://registry.example/acme/*"\n  keys: [signature.pub]\n  mode: enforce\n',
    }
    digests = {name: str(Digest.of(data)) for name, data in found.items()}
    return {**found, "digests.json": (json.dumps(digests, indent=2) + "\n").encode()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_in:
        for name, data in examples(Path(made_in)).items():
            (HERE / name).write_bytes(data)
