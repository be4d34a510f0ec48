"""Headers and manifests read in two halves, one of which was read before: nothing is taken for what it is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adaptr import errors as e
from adaptr.format import again, canonical, header, manifest

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
CONFIG = {"alpha": 4, "r": 2}
TARGETS = {"q": {"config": CONFIG, "kind": "linear", "shape": [4, 3]}}
MANIFEST = {"format": 1, "method": {"config": {}, "name": "lora", "version": 1}, "targets": TARGETS}


def dumped(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def load(text: str) -> dict[str, Any]:
    return manifest.load(header.Header({}, {manifest.KEY: text}, 0))


def whole(read: Any, given: Any) -> Any:
    """What is read, or the error, where nothing is read in two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(again, "KEPT", 0)
        return read_thrice(read, given)


def read_thrice(read: Any, given: Any) -> Any:
    """What is read, the same each time: as something new, as seen before, as read before."""
    found = [outcome(read, given) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    return found[2]


def outcome(read: Any, given: Any) -> Any:
    try:
        return read(given)
    except e.AdaptrError as error:
        return type(error), str(error)


def test_headers_of_one_structure_have_their_own_metadata_and_entries():
    _, _, first, second = (
        header.parse(dumped({"__metadata__": {"name": n}, "a": ENTRY}).encode() + n.encode(), 0)
        for n in ("", "", " ", "  ")
    )
    assert (first.metadata, second.metadata) == ({"name": " "}, {"name": "  "})
    assert first.entries == second.entries == {"a": header.Entry("F32", (1,), 0, 4)}
    assert first.entries is not second.entries


T = dumped(ENTRY)
HEADERS = {
    "metadata twice": ('{"__metadata__":{"a":"b"},"__metadata__":T}', e.KeyDuplicate),
    "a tensor twice": ('{"__metadata__":{"a":"b"},"t":T,"t":T}', e.KeyDuplicate),
    "no tensor before": ('{"__metadata__":{},"u":{"x":"y"},"v":T}', e.EntryMalformed),
    "no brace at the end": ('{"__metadata__":{"a":"b"},"t":T', e.HeaderNotJson),
    "one brace more": ('{"__metadata__":{"a":"b"},"t":T}}', e.HeaderNotJson),
    "metadata of lists": ('{"__metadata__":{"a":[],"b":"c"},"t":T}', e.MetadataInvalid),
    "a hole": ('{"__metadata__":{"a":"b"},"t":T}'.replace("T", T.replace("[0,4]", "[4,8]")), e.OffsetsHole),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_refused_as_it_is_as_a_whole(name):
    text, error = HEADERS[name]
    text = text.replace(":T", f":{T}")
    for _ in range(2):
        header.parse(dumped({"__metadata__": {"a": "b"}, "t": ENTRY}).encode(), 0)
    found = read_thrice(lambda raw: header.parse(raw, 0), text.encode())
    assert found == whole(lambda raw: header.parse(raw, 0), text.encode())
    assert found[0] is error


def test_manifests_of_one_structure_share_nothing_that_can_be_changed():
    load(dumped(MANIFEST)), load(dumped(MANIFEST))
    first, second = (manifest.adapter(load(canonical.dumps({**MANIFEST, "name": n})), {}) for n in ("a", "b"))
    assert isinstance(load(dumped(MANIFEST))["targets"], manifest.Table)
    first.targets["q"].config["r"] = 9  # type: ignore[index]
    first.targets.clear()  # type: ignore[attr-defined]
    again = manifest.adapter(load(dumped(MANIFEST)), {})
    assert again.targets == second.targets
    assert second.targets["q"].config == CONFIG
    assert (first.name, second.name) == ("a", "b")


def test_a_list_in_a_configuration_is_one_s_own():
    text = dumped(MANIFEST).replace('"alpha":4', '"alpha":[4]')
    for _ in range(3):
        manifest.adapter(load(text), {}).targets["q"].config["alpha"].append(5)
    assert manifest.adapter(load(text), {}).targets["q"].config["alpha"] == [4]


def test_a_number_of_another_type_is_another_structure():
    load(dumped(MANIFEST)), load(dumped(MANIFEST))
    for r in (2, True):
        text = dumped(MANIFEST).replace('"r":2', f'"r":{dumped(r)}')
        for _ in range(3):
            assert type(manifest.adapter(load(text), {}).targets["q"].config["r"]) is type(r)


TABLE = dumped(TARGETS)
INNER = {"targets": TARGETS, "training": {}}
OTHERS = {"k": TARGETS["q"]}
MANIFESTS = {
    "a field after the targets": dumped({**MANIFEST, "zeta": 1}),
    "targets in the training": dumped({**MANIFEST, "training": {"targets": TARGETS}}),
    "targets in a part alone": dumped({**MANIFEST, "parts": {"p": {"targets": TARGETS}}}).replace(TABLE, "{}", 1),
    "no targets, the training has": dumped({**MANIFEST, "training": {"targets": TARGETS}}).replace(TABLE, "null", 1),
    "no targets, a field of another reader has": dumped({**MANIFEST, "targets": None, "x": INNER}),
    "targets, a field of another reader has others": dumped({**MANIFEST, "targets": OTHERS, "x": INNER}),
    "targets, the training has none": dumped({**MANIFEST, "training": {"targets": None}}),
    "a list in a configuration": dumped(MANIFEST).replace('"alpha":4', '"alpha":[4]'),
    "targets twice": dumped(MANIFEST)[:-1] + f',"targets":{TABLE}}}',
    "targets of a kind of its own": dumped(MANIFEST).replace("linear", "circular"),
    "white space": dumped(MANIFEST).replace(TABLE, TABLE + " "),
    "keys in another order": dumped({"targets": TARGETS, **MANIFEST}),
    "an unknown format": dumped(MANIFEST).replace('"format":1', '"format":2'),
    "as deep as may be": dumped(MANIFEST).replace('"r":2', f'"r":{"[" * 28}{"]" * 28}'),
    "too deep": dumped(MANIFEST).replace('"r":2', f'"r":{"[" * 29}{"]" * 29}'),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_says_what_it_says_as_a_whole(name):
    def read(text: str) -> Any:
        found = load(text)
        return found, manifest.adapter(found, {})

    load(dumped(MANIFEST)), load(dumped(MANIFEST))
    assert read_thrice(read, MANIFESTS[name]) == whole(read, MANIFESTS[name])


def test_the_examples_are_canonical_where_they_mean_to_be():
    assert canonical.dumps(MANIFEST) == dumped(MANIFEST)
    assert canonical.dumps(json.loads(MANIFESTS["a field after the targets"])) == MANIFESTS["a field after the targets"]
