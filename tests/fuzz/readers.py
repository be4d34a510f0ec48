"""Every reader of bytes that others wrote, with valid files to change.

A reader makes an example out of a `Random` in a folder of its own: whether its bytes are well formed, which is the
first check that a reader makes, and what reads them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import checkpoints
from adaptr import api, untrusted
from adaptr.checkpoint import open_checkpoint
from adaptr.errors import AdaptrError
from adaptr.foreign import detect
from adaptr.format import header as headers
from adaptr.ops import receipt, recipe_file
from adaptr.ops.inspect import inspect
from adaptr.registry import check, lockfile, search, strict, terms
from adaptr.registry import manifest as manifests
from adaptr.registry.client import challenge, credentials, pins
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.reference import parse
from adaptr.registry.signing import bundle, keys, policy
from adaptr.registry.signing.bundle import Signer, Trust
from adaptr.registry.signing.statement import Statement
from adaptr.registry.store import Store
from adaptr.registry.store.index import Index
from fuzz import mutations

#: Whether it is well formed, and what reads it.
Example = tuple[bool, Callable[[], Any]]
Reader = Callable[[Random], Example]

ZERO = "sha256:" + "0" * 64
VECTORS = Path(__file__).resolve().parents[2] / "registry_spec/vectors/valid"
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": terms.OCI_MANIFEST,
    "artifactType": terms.MODEL_ARTIFACT,
    "config": {"mediaType": terms.MODEL_CONFIG, "digest": "sha256:" + "3" * 64, "size": 505},
    "layers": [
        {
            "mediaType": terms.WEIGHTS_LAYER,
            "digest": "sha256:" + "4" * 64,
            "size": 10,
            "annotations": {terms.FILEPATH: "a.safetensors", terms.TITLE: "a.safetensors"},
        },
        {"mediaType": terms.DOC_LAYER, "digest": Digest.of(b"x"), "size": 1, "data": "eA=="},
    ],
    "subject": {"mediaType": "a", "digest": "sha256:" + "5" * 64, "size": 1},
    "annotations": {terms.SPEC_VERSION: terms.SPEC, terms.KIND: terms.ADAPTER},
}
INDEX = {
    "schemaVersion": 2,
    "mediaType": terms.OCI_INDEX,
    "manifests": [
        {
            "mediaType": terms.OCI_MANIFEST,
            "digest": "sha256:" + "4" * 64,
            "size": 3,
            "artifactType": "x",
            "annotations": {terms.REF_NAME: "x:1", terms.REFERENCE: "oci://h.io/a:1"},
        }
    ],
}
LOCK = {
    "version": 1,
    "artifacts": {
        "oci://h.io/a/b:1": {"digest": "sha256:" + "1" * 64, "source": "oci://h.io/a/b@sha256:" + "1" * 64},
        "hf://o/n": {"digest": "sha256:" + "2" * 64, "source": "hf://o/n@" + "a" * 40},
    },
}
FOUND = {"version": 1, "artifacts": [{"reference": "oci://h.io/a/b:1", "digest": ZERO, "annotations": {"a": "b"}}]}
ACCOUNTS = {
    "auths": {"h.io": {"auth": "YTpi"}, "https://index.docker.io/v1/": {"username": "a", "password": "b"}},
    "credHelpers": {"x.io": "none"},
    "credsStore": "",
}
CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "acme/base", "r": 2, "lora_alpha": 4,
    "target_modules": ["q_proj"], "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "use_dora": False,
    "rank_pattern": {}, "alpha_pattern": {"layers.0.self_attn.q_proj": 8}, "modules_to_save": None,
    "layers_to_transform": None, "lora_dropout": 0.1, "inference_mode": True,
}  # fmt: skip
RECIPE = f"""strategy: ties
config: {{density: 0.2}}
inputs:
  - adapter: a.safetensors
    weight: 0.7
  - adapter: b.safetensors
    weight: {{"*": 0.3, "*.mlp.*": [0, 1]}}
    digest: {ZERO}
rank: 4
seed: 0
"""
POLICY = f"""- scope: "oci://ghcr.io/acme/*"
  keys: [acme.pub, 8f14e45f]
  certificates: [acme-ca.pem]
  mode: enforce
- scope: "*"
  keys: ["{ZERO}"]
  mode: warn
"""
CHALLENGE = (
    b'Bearer realm="https://a.b/token",service="x",scope="repository:a:pull", Basic realm="a\\"b", Negotiate abc=='
)
REFERENCES = (
    "oci://ghcr.io/acme/style:1.2", "hf://org/name@main#folder", f"https://h.io/x.safetensors#sha256={'0' * 64}",
    "file:///data/#ref", f"oci://[::1]:5000/a@{ZERO}", "name:tag", f"http://h/l/#a@{ZERO}",
)  # fmt: skip
KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def is_json(raw: bytes) -> bool:
    try:
        untrusted.json_object(raw, "it")
    except AdaptrError:
        return False
    return True


def is_yaml(raw: bytes) -> bool:
    import yaml

    from adaptr.untrusted.plain_yaml import Plain

    try:
        Plain(raw.decode()).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return True


def is_header(raw: bytes) -> bool:
    try:
        headers.read(io.BytesIO(raw), len(raw))
    except AdaptrError:
        return False
    return True


def readers(folder: Path) -> Mapping[str, Reader]:
    """All readers by name; `folder` is empty and theirs."""
    made = (_adapters, _peft, _pickles, _checkpoints, _receipts, _texts, _manifests, _registry, _bundles)
    return {name: reader for one in made for name, reader in one(folder).items()}


def _adapters(folder: Path) -> dict[str, Reader]:
    valid = [path.read_bytes() for path in sorted(VECTORS.glob("*"))]
    file = folder / "x.safetensors"

    def example(random: Random) -> Example:
        raw = mutations.safetensors(random, random.choice(valid), "adaptr")
        file.write_bytes(raw)

        def read() -> None:
            with contextlib.suppress(AdaptrError):
                strict.header("x", file)
            detect.is_adaptr(file)
            inspect(file)

        return is_header(raw), read

    return {"adapter": example}


def _peft(folder: Path) -> dict[str, Reader]:
    from safetensors.torch import save

    place = folder / "peft"
    place.mkdir()
    weights = save(_lora())
    types = [
        "LORA",
        "LOHA",
        "LOKR",
        "ADALORA",
        "IA3",
        "VERA",
        "OFT",
        "PREFIX_TUNING",
        "PROMPT_TUNING",
        "SHIRA",
        "XLORA",
    ]

    def example(random: Random) -> Example:
        config: Any = {**CONFIG, "peft_type": random.choice(types)} if random.random() < 0.2 else CONFIG
        said = mutations.text(random, config) if random.random() < 0.8 else json.dumps(config).encode()
        raw = mutations.safetensors(random, weights, "") if random.random() < 0.5 else weights
        (place / "adapter_config.json").write_bytes(said)
        (place / "adapter_model.safetensors").write_bytes(raw)
        return is_json(said) and is_header(raw), lambda: inspect(place)

    return {"peft": example}


def _lora() -> dict[str, Any]:
    import torch

    return {KEY.format("A"): torch.ones(2, 8), KEY.format("B"): torch.ones(8, 2)}


def _pickles(folder: Path) -> dict[str, Reader]:
    import torch

    valid = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(_lora(), file, _use_new_zipfile_serialization=zipped)
        valid.append(file.getvalue())
    place = folder / "pickled"
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps(CONFIG))

    def example(random: Random) -> Example:
        raw = mutations.flipped(random, random.choice(valid))
        (place / "adapter_model.bin").write_bytes(raw)
        (folder / "x.pt").write_bytes(raw)

        def read() -> None:
            with contextlib.suppress(AdaptrError):
                inspect(place)
            raise detect.refusal(folder / "x.pt")

        return _is_archive(raw), read

    return {"pickle": example}


def _is_archive(raw: bytes) -> bool:
    """Whether it is a zip with its directory, or starts as a pickle."""
    with contextlib.suppress(Exception):
        return raw[:1] == b"\x80" or bool(zipfile.ZipFile(io.BytesIO(raw)).namelist())
    return False


def _checkpoints(folder: Path) -> dict[str, Reader]:
    place, out = folder / "checkpoint", folder / "merged"
    valid = checkpoints.saved("llama", folder / "base", shard="12KB")
    files = {path.name: path.read_bytes() for path in valid.iterdir()}
    place.mkdir()
    names = ("../base/model.safetensors", "/etc/passwd", "..", "", "x\0", "config.json", "é" * 300, "adaptr")
    adapter = checkpoints.lora_at_q()

    def example(random: Random) -> Example:
        found = dict(files)
        name = random.choice(("config.json", "model.safetensors.index.json", random.choice(sorted(files))))
        if name.endswith(".json"):
            document = json.loads(files[name])
            if "weight_map" in document and random.random() < 0.3:
                document["weight_map"][random.choice(sorted(document["weight_map"]))] = random.choice(names)
            found[name] = mutations.text(random, document)
        else:
            found[name] = mutations.safetensors(random, files[name], "")
        for one, raw in found.items():
            (place / one).write_bytes(raw)
        good = is_json(found[name]) if name.endswith(".json") else is_header(found[name])
        deep = random.random() < 0.01

        def read() -> None:
            open_checkpoint(place)
            if deep:
                api.merge(place, [adapter], out, force=True)

        return good, read

    return {"checkpoint": example}


def _receipts(folder: Path) -> dict[str, Reader]:
    base = checkpoints.saved("llama", folder / "base2")
    merged, back = folder / "with-receipt", folder / "back"
    api.merge(base, [checkpoints.lora_at_q()], merged)
    file = merged / receipt.FOLDER / receipt.FILE
    valid = file.read_bytes()

    def example(random: Random) -> Example:
        raw = _receipt(random, valid)
        file.write_bytes(raw)
        deep = random.random() < 0.02

        def read() -> None:
            if deep:
                api.unmerge(merged, back, force=True)
            else:
                receipt.read(merged)

        return is_header(raw), read

    return {"receipt": example}


def _receipt(random: Random, valid: bytes) -> bytes:
    """A receipt changed in its document, its header, or one of its blobs."""
    if random.random() < 0.7:
        return mutations.safetensors(random, valid, receipt.KEY)
    head, data = mutations.split(valid)
    name = random.choice([key for key in head if key != "__metadata__"])
    start, stop = head[name]["data_offsets"]
    blob = mutations.flipped(random, data[start:stop])
    blob = blob if random.random() < 0.5 else struct.pack("<8Q", *(random.choice((1, 2, 8, 2**40, 2**63)),) * 8)
    blob = blob[: stop - start].ljust(stop - start, b"\1")
    return mutations.joined(json.dumps(head), data[:start] + blob + data[stop:])


def _texts(folder: Path) -> dict[str, Reader]:
    recipe, rules, place = folder / "r.yaml", folder / "policy.yaml", folder / "locked"
    place.mkdir()

    def of_recipe(random: Random) -> Example:
        raw = mutations.yaml(random, RECIPE)
        recipe.write_bytes(raw)
        return is_yaml(raw), lambda: recipe_file.read(recipe)

    def of_policy(random: Random) -> Example:
        raw = mutations.yaml(random, POLICY)
        rules.write_bytes(raw)
        return is_yaml(raw), lambda: policy.read(rules)

    def of_lock(random: Random) -> Example:
        raw = mutations.text(random, LOCK)
        (place / lockfile.FILE).write_bytes(raw)
        return is_json(raw), lambda: lockfile.read(place)

    def of_reference(random: Random) -> Example:
        raw = mutations.flipped(random, random.choice(REFERENCES).encode()).decode("utf-8", "surrogateescape")

        def read() -> None:
            found = parse(raw)
            parse(str(found)).local  # noqa: B018

        return raw.isascii() and raw.isprintable(), read

    return {"recipe": of_recipe, "policy": of_policy, "lock": of_lock, "reference": of_reference}


def _manifests(folder: Path) -> dict[str, Reader]:
    def of_manifest(random: Random) -> Example:
        raw = mutations.text(random, MANIFEST)
        kind = random.choice((None, terms.OCI_MANIFEST, "application/json; x", "\xff"))

        def read() -> None:
            found = manifests.parse(raw, kind)
            check.refuse_pickles(found)
            found.files()

        return is_json(raw), read

    def of_index(random: Random) -> Example:
        raw = mutations.text(random, INDEX)
        (folder / "index.json").write_bytes(raw)

        def read() -> None:
            for entry in manifests.parse_index(raw):
                entry.title  # noqa: B018
            Index(folder).entries()

        return is_json(raw), read

    return {"manifest": of_manifest, "index": of_index}


def _registry(folder: Path) -> dict[str, Reader]:
    store = Store(folder / "store")
    config = Descriptor(terms.OCI_EMPTY, store.add_bytes(b"{}"), 2)

    def of_search(random: Random) -> Example:
        raw = mutations.text(random, FOUND)
        layer = Descriptor(terms.INDEX_ARTIFACT, store.add_bytes(raw), len(raw))
        found = Manifest.make(config, [layer], terms.INDEX_ARTIFACT, {})
        return is_json(raw), lambda: search.fitting(search.read(found, store), ["a"])

    def of_accounts(random: Random) -> Example:
        raw = mutations.text(random, ACCOUNTS)
        credentials.files()[0].write_bytes(raw)

        def read() -> None:
            for host in ("h.io", "docker.io", "x.io"):
                credentials.find(host, "a/b")

        return is_json(raw), read

    def of_challenge(random: Random) -> Example:
        raw = mutations.flipped(random, CHALLENGE).decode("latin-1")
        return raw[:6] in {"Bearer", "Basic "}, lambda: challenge.parse([raw])

    def of_realms(random: Random) -> Example:
        raw = mutations.text(random, {"h.io": "https://a.h.io", "x.io": "https://b.x.io"})
        path = pins._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return is_json(raw), pins._read

    return {"search": of_search, "credentials": of_accounts, "challenge": of_challenge, "realms": of_realms}


def _bundles(folder: Path) -> dict[str, Reader]:
    from cryptography.hazmat.primitives.asymmetric import ec

    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    trust = Trust((signer.key.public_key(),), (), frozenset({"0" * 64}))
    valid = bundle.sign(Statement("a", {"x": "0" * 64}, {"base": "acme/base"}), signer)
    document = json.loads(valid)
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))

    def example(random: Random) -> Example:
        if random.random() < 0.6:
            raw = mutations.text(random, document)
            return is_json(raw), lambda: bundle.verify(raw, trust)
        said = mutations.text(random, payload)  # and signed, so that it is read
        signature = signer.key.sign(bundle._envelope(said), keys.algorithm(signer.key))
        envelope = {
            "payload": base64.b64encode(said).decode(),
            "payloadType": bundle.PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        }
        made = json.dumps({**document, "dsseEnvelope": envelope}).encode()
        return is_json(said), lambda: bundle.verify(made, trust)

    return {"bundle": example}


def examples(reader: Reader, seed: str, count: int) -> Iterator[tuple[str, Example]]:
    """Examples with the names by which they are made again."""
    for number in range(count):
        name = f"{seed}/{number}"
        yield name, reader(Random(name))
