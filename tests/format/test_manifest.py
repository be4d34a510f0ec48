"""Manifests: canonical text, limits, and the way from an adapter to a document and back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptr import Adapter, Base, Target
from adaptr import errors as e
from adaptr.adapter import Part
from adaptr.format import canonical
from adaptr.format import manifest as manifests
from adaptr.format.header import Header

LORA = {"r": 2, "alpha": 4.0}
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def header(text: str) -> Header:
    return Header({}, {manifests.KEY: text}, 0)


def full() -> Adapter:
    """An adapter with every field set."""
    target = Target("q", "linear", (4, 3), LORA)
    return Adapter(
        method="lora",
        config=LORA,
        targets={"q": target},
        tensors={"q:A": None, "lm_head.weight:=": None},  # type: ignore[dict-item]
        parts={"inner": Part("ia3", 1, {}, {"k": Target("k", "linear", (4, 3), {"side": "out"})})},
        base=Base("acme/tiny", "0123", "Llama", "sha256:0", "sha256:1", (("a", "b"),), "nf4"),
        name="n",
        release="1.0",
        summary="s",
        license="MIT",
        tags=("b", "a"),
        lineage={"operation": "train"},
        training={"seed": 0},
        quantization={"scheme": "bf16", "error": 0.25},
        foreign={"peft": {"x": [1, None]}},
        requires=("parts", "quantized", "replaced"),
        extra={"x-lab": [True]},
    )


def test_every_field_comes_back():
    adapter = full()
    again = manifests.adapter(manifests.load(header(manifests.dump(adapter))), adapter.tensors)
    assert again == adapter
    unset = [f.name for f in dataclasses.fields(Adapter) if f.name != "source" and not getattr(adapter, f.name)]
    assert unset == []


def test_equal_adapters_give_equal_text():
    one, other = full(), full()
    other = other.replace(targets=dict(reversed(list(other.targets.items()))), config=dict(reversed(LORA.items())))
    assert manifests.dump(one) == manifests.dump(other)


def test_features_in_use_are_required():
    found = manifests.document(full().replace(requires=()))
    assert found["requires"] == ["parts", "quantized", "replaced"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 2**53, {1: "x"}, "\ud800", object(), {"a": {"\ud800": 1}}])
def test_what_json_can_t_carry_is_not_written(bad):
    with pytest.raises(e.FieldInvalid):
        manifests.dump(full().replace(training={"x": bad}))


def test_what_nests_without_end_is_not_written():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(e.ManifestTooDeep):
        manifests.dump(full().replace(training={"x": loop}))


def test_depth_is_counted_exactly():
    def deep(levels: int) -> str:
        return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"

    assert canonical.loads(deep(canonical.MAX_DEPTH))
    for levels in (canonical.MAX_DEPTH + 1, 100_000):
        with pytest.raises(e.ManifestTooDeep):
            canonical.loads(deep(levels))


def test_a_manifest_without_end_is_refused_before_it_is_parsed():
    with pytest.raises(e.HeaderTooLarge):
        canonical.loads('{"a":"' + "x" * canonical.MAX_TEXT + '"}')


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_fast_check_agrees_with_rfc_8785(document):
    text = rfc8785.dumps(document).decode()
    found = canonical.loads(text)
    assert canonical.is_canonical(text, found)
    assert canonical.dumps(found) == text
    for other in (
        json.dumps(document),
        json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
    ):
        assert canonical.is_canonical(other, canonical.loads(other)) == (other == text)


@pytest.mark.parametrize(
    "text", ['{"a":1.0}', '{"a":1e-05}', '{"a":-0}', '{"a":1e+20}', '{"\ue000":0,"😀":1}', '{"a":1E2}']
)
def test_other_ways_to_write_the_same_are_refused(text):
    assert not canonical.is_canonical(text, canonical.loads(text))


@pytest.mark.parametrize("text", ['{"a":1e-7}', '{"a":100000000000000000000}', '{"😀":1,"\ue000":0}', '{"a":0.00001}'])
def test_what_rfc_8785_writes_is_canonical(text):
    assert canonical.is_canonical(text, canonical.loads(text))
