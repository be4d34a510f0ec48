"""The artifact half of the specification: examples made again, schemas, the conformance suite on a real registry."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from adaptr.registry import local, lockfile, manifest, terms
from adaptr.registry.digest import Digest
from adaptr.registry.signing import bundle, keys, policy

from .servers.registry import DockerRegistry

SPEC = Path(__file__).resolve().parents[2] / "registry_spec"
EXAMPLES = SPEC / "examples"


def schema(name: str) -> Any:
    return json.loads((SPEC / f"schemas/{name}.schema.json").read_text())


def example(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_bytes())


def test_the_examples_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("examples_make", EXAMPLES / "make.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    made = module.examples(tmp_path / "store")
    assert {name: (EXAMPLES / name).read_bytes() for name in made} == made
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {*made, "make.py"}


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("adapter.manifest.json", "artifact"),
        ("signature.manifest.json", "artifact"),
        ("index.json", "index"),
        ("adaptr.lock", "lock"),
    ],
)
def test_examples_fit_their_schemas(name: str, of: str) -> None:
    jsonschema.validate(example(name), schema(of))


def test_the_policy_example_is_read_and_fits() -> None:
    jsonschema.validate(yaml.safe_load((EXAMPLES / "policy.yaml").read_text()), schema("policy"))
    (rule,) = policy.read(EXAMPLES / "policy.yaml")
    assert rule.mode == "enforce"


def test_the_lock_example_is_read() -> None:
    assert lockfile.read(EXAMPLES).pins


def test_the_signature_example_is_of_the_manifest_example() -> None:
    made = manifest.parse((EXAMPLES / "adapter.manifest.json").read_bytes())
    trusted = bundle.Trust((keys.public(EXAMPLES / "signature.pub"),))
    said = bundle.proved((EXAMPLES / "signature.bundle.json").read_bytes(), trusted).statement
    assert said.claims["manifest"] == made.digest
    assert manifest.parse((EXAMPLES / "signature.manifest.json").read_bytes()).subject.digest == made.digest  # type: ignore[union-attr]
    (layer,) = made.layers
    vector = (SPEC / "vectors/valid/minimal_lora.safetensors").read_bytes()
    assert layer.digest == Digest.of(vector) == f"sha256:{said.files[layer.title]}"


def edits() -> dict[str, Any]:
    def put(*path: Any) -> Any:
        def edit(document: Any) -> None:
            *way, last, value = path
            for step in way:
                document = document[step]
            document[last] = value

        return edit

    return {
        "urls": put("layers", 0, "urls", ["https://x"]),
        "archive": put("layers", 0, "mediaType", "application/vnd.cncf.model.weight.v1.tar"),
        "upper-case-digest": put("layers", 0, "digest", "sha256:" + "A" * 64),
        "path": put("layers", 0, "annotations", {terms.TITLE: "../x", terms.FILEPATH: "../x"}),
        "no-name": put("layers", 0, "annotations", {}),
        "other-major": put("annotations", terms.SPEC_VERSION, "2.0"),
        "other-kind": put("annotations", terms.KIND, "weapon"),
        "two-things": put("manifests", []),
    }


@pytest.mark.parametrize("name", edits())
def test_the_schema_refuses(name: str) -> None:
    document = example("adapter.manifest.json")
    edits()[name](document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema("artifact"))


def test_every_term_is_in_the_text() -> None:
    text = (SPEC / "artifacts.md").read_text()
    kinds = (terms.MODEL_ARTIFACT, terms.MODEL_CONFIG, terms.WEIGHTS_LAYER, terms.CONFIG_LAYER, terms.DOC_LAYER)
    for said in (*kinds, terms.INDEX_ARTIFACT, terms.BUNDLE, terms.SPEC_VERSION, terms.KIND, terms.INDEX_TAG):
        assert f"`{said}`" in text or said in text, said
    assert lockfile.FILE in text
    assert local.__doc__


def test_the_conformance_suite_passes_on_a_real_registry(plain: DockerRegistry, repository: str) -> None:
    ran = conformance(ADAPTR_REGISTRY=plain.host, ADAPTR_REGISTRY_REPOSITORY=repository)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = dict(line.split("  ", 1) for line in ran.stdout.partition("capabilities")[2].splitlines() if "  " in line)
    found = {what.strip(): said.split()[0] for what, said in report.items()}
    assert found["resumable pull (ranges)"] == "yes"
    assert found["referrers API"] == "no"
    assert found["manifest for `Accept: */*`"] == "no"
    assert found["compare and swap (If-Match)"] == "no"


def test_the_conformance_suite_says_what_it_needs() -> None:
    ran = conformance()
    assert ran.returncode == 0
    assert "s" * 10 in ran.stdout
    assert "capabilities" not in ran.stdout


def conformance(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ADAPTR_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(SPEC / "conformance")]
    return subprocess.run(
        command, capture_output=True, text=True, env={**kept, **environment}, cwd=SPEC / "conformance", timeout=120
    )
