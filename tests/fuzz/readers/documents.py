"""Readers of what people write: recipes, policies, lock files, references."""

from __future__ import annotations

from pathlib import Path
from random import Random

from adaptr.composing import recipe_file
from adaptr.registry import lockfile
from adaptr.registry.reference import parse
from adaptr.registry.signing import policy
from fuzz import mutations
from fuzz.readers.examples import ZERO, Example, Reader, is_json, is_yaml

LOCK = {
    "version": 1,
    "artifacts": {
        "oci://h.io/a/b:1": {"digest": "sha256:" + "1" * 64, "source": "oci://h.io/a/b@sha256:" + "1" * 64},
        "hf://o/n": {"digest": "sha256:" + "2" * 64, "source": "hf://o/n@" + "a" * 40},
    },
}
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
MERGEKIT = """merge_method: breadcrumbs
base_model: base
models:
  - model: base+a.safetensors
    parameters: {weight: [0, 1], density: 0.5}
  - model: {model: {path: base}, lora: {path: b}}
    parameters: {weight: [{filter: mlp, value: 0.3}, {value: 1}], density: 0.5}
parameters: {gamma: 0.01, normalize: true}
dtype: bfloat16
tokenizer_source: base
"""
POLICY = f"""- scope: "oci://ghcr.io/acme/*"
  keys: [acme.pub, 8f14e45f]
  certificates: [acme-ca.pem]
  mode: enforce
- scope: "*"
  keys: ["{ZERO}"]
  mode: warn
"""
REFERENCES = (
    "oci://ghcr.io/acme/style:1.2", "hf://org/name@main#folder", f"https://h.io/x.safetensors#sha256={'0' * 64}",
    "file:///data/#ref", f"oci://[::1]:5000/a@{ZERO}", "name:tag", f"http://h/l/#a@{ZERO}",
)  # fmt: skip


def _texts(folder: Path) -> dict[str, Reader]:
    recipe, rules, place = folder / "r.yaml", folder / "policy.yaml", folder / "locked"
    place.mkdir()

    def of_recipe(random: Random) -> Example:
        raw = mutations.yaml(random, random.choice((RECIPE, MERGEKIT)))
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


READERS = (_texts,)
