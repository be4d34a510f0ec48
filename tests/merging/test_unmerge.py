"""Receipts: they name every parent, and whatever was changed since is noticed before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints as c
from adaptr import api
from adaptr.adapter import Adapter
from adaptr.bulk import workers
from adaptr.errors import AdaptrError, DigestMismatch, FieldInvalid, FormatTooNew, NotMerged
from adaptr.format import canonical, digest
from adaptr.format import header as headers
from adaptr.merging import receipt

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return c.saved("llama", tmp_path / "base", torch.bfloat16, shard="40KB")


@pytest.fixture
def stack(base: Path) -> list[tuple[Adapter, float]]:
    return [
        (c.randomised(base, "lora", "all-linear", seed=1), 1.0),
        (c.randomised(base, "dora", "attn.v", seed=2), 0.5),
    ]


@pytest.fixture
def merged(base: Path, stack: list[Any], tmp_path: Path) -> Path:
    api.merge(base, stack, tmp_path / "out")
    return tmp_path / "out"


def paper(folder: Path) -> Path:
    return folder / receipt.FOLDER / receipt.FILE


def test_every_parent_is_named_by_its_digest(base: Path, stack: list[Any], merged: Path, tmp_path: Path) -> None:
    found = receipt.read(merged)
    for number, (adapter, weight) in enumerate(stack):
        named = found.adapters[number]
        api.save(adapter, tmp_path / "a", force=True)
        assert named["digest"] == digest.of_file(found.adapter_file(number)) == digest.of_file(tmp_path / "a")
        assert (named["weights"], named["weight"]) == (digest.of_adapter(adapter), weight)
    for name, tensor in c.tensors_of(base).items():
        note = found.document["tensors"].get(name)
        assert (note is None) == (".layers." not in name or "norm" in name)
        if note:
            raw = bytes(tensor.view(torch.uint8).reshape(-1))
            assert note["digest"] == "sha256:" + hashlib.sha256(raw).hexdigest()
    shards = {p.name for p in base.glob("*.safetensors")}
    assert set(found.document["base"]["headers"]) == shards
    assert found.document["base"]["config"] == digest.of_file(base / "config.json")


def refused(merged: Path, tmp_path: Path, kind: type[AdaptrError] = DigestMismatch) -> str:
    """Unmerging is refused with `kind`, and leaves nothing; the message."""
    before = c.digests(merged)
    with pytest.raises(kind) as caught:
        api.unmerge(merged, tmp_path / "back")
    assert c.digests(merged) == before
    assert not (tmp_path / "back").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    return str(caught.value)


def test_a_flipped_byte_in_the_weights(merged: Path, tmp_path: Path) -> None:
    from adaptr.checkpoint import open_checkpoint

    stored = open_checkpoint(merged).tensors[Q]
    c.flip(stored.shard.path, stored.offset + 11, mask=0x40)
    assert f"`{Q}` does not come back as the base's" in refused(merged, tmp_path)


def blob_at(merged: Path, key: str) -> int:
    found = receipt.read(merged)
    return found.header.data + found.header.entries[key].start


def test_a_flipped_byte_in_a_patch(merged: Path, tmp_path: Path) -> None:
    for at in (0, 9, 17, 26, 60):
        c.flip(paper(merged), blob_at(merged, f"{Q}:patch") + at)
        refused(merged, tmp_path)
        c.flip(paper(merged), blob_at(merged, f"{Q}:patch") + at)
    api.unmerge(merged, tmp_path / "back")


def test_a_flipped_byte_in_what_dora_kept(merged: Path, tmp_path: Path) -> None:
    keys = [key for key in receipt.read(merged).header.entries if key.endswith(".g")]
    assert keys
    c.flip(paper(merged), blob_at(merged, keys[0]) + 2, mask=0x40)
    refused(merged, tmp_path)


def test_a_flipped_byte_in_an_adapter(merged: Path, tmp_path: Path) -> None:
    file = receipt.read(merged).adapter_file(0)
    c.flip(file, file.stat().st_size - 3)
    assert file.name in refused(merged, tmp_path)


def test_another_header_or_configuration(merged: Path, tmp_path: Path) -> None:
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert "config.json" in refused(merged, tmp_path)


def test_a_flipped_byte_in_old_bytes(tmp_path: Path) -> None:
    base = c.saved("bert", tmp_path / "base", torch.bfloat16)
    api.merge(base, [c.randomised(base, "bitfit")], tmp_path / "out")
    keys = [key for key in receipt.read(tmp_path / "out").header.entries if key.endswith(":old")]
    c.flip(paper(tmp_path / "out"), blob_at(tmp_path / "out", keys[0]) + 20)
    refused(tmp_path / "out", tmp_path)


def rewrite(merged: Path, change: Callable[[dict[str, Any]], Any], rename: dict[str, str] | None = None) -> None:
    """The receipt with another document or other names of blobs."""
    found = receipt.read(merged)
    document = json.loads(json.dumps(found.document))
    change(document)
    names = {key: (rename or {}).get(key, key) for key in found.header.entries}
    blobs = {names[key]: b"".join(found.pieces(key)) for key in found.header.entries}
    shapes = {key: ("U8", (len(blob),)) for key, blob in blobs.items()}
    raw, header = headers.build(shapes, {receipt.KEY: canonical.dumps(document)})
    paper(merged).write_bytes(raw + b"".join(blobs[key] for key in header.entries))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda d: d["tensors"].pop(Q), DigestMismatch),
        (lambda d: d["tensors"].update({"ghost": d["tensors"][Q]}), DigestMismatch),
        (lambda d: d["tensors"][Q].pop("digest"), FieldInvalid),
        (lambda d: d["adapters"].pop(), DigestMismatch),
        (lambda d: d["adapters"][0].update(weight=0.9), DigestMismatch),
        (lambda d: d["adapters"][0].update(digest="sha256:../../../etc/hos"), FieldInvalid),
        (lambda d: d.update(adapters={}), FieldInvalid),
        (lambda d: d.update(tensors=[]), FieldInvalid),
        (lambda d: d.update(base={}), FieldInvalid),
        (lambda d: d.update(format=5), FormatTooNew),
        (lambda d: d.update(format=1), NotMerged),
        (lambda d: d.update(exact=False), NotMerged),
    ],
)
def test_a_receipt_that_says_something_else(merged: Path, tmp_path: Path, change: Any, kind: type[AdaptrError]) -> None:
    rewrite(merged, change)
    refused(merged, tmp_path, kind)


def test_a_receipt_never_leads_outside(merged: Path, tmp_path: Path) -> None:
    rewrite(merged, lambda d: None, {f"{Q}:patch": "file:../evil"})
    assert "evil" in refused(merged, tmp_path, FieldInvalid)
    assert not (tmp_path / "evil").exists()


def test_without_what_unmerging_needs(base: Path, stack: list[Any], tmp_path: Path) -> None:
    report = api.merge(base, stack, tmp_path / "out", receipt=False)
    full = api.merge(base, stack, tmp_path / "full")
    assert report.receipt_bytes < full.receipt_bytes
    assert "--no-receipt" in refused(tmp_path / "out", tmp_path, NotMerged)
    assert "no receipt" in refused(base, tmp_path, NotMerged)
    a, b = (c.digests(tmp_path / name, but=receipt.FOLDER) for name in ("out", "full"))
    assert a == b


def test_the_receipt_of_a_base_must_be_the_one_it_had(base: Path, merged: Path, tmp_path: Path) -> None:
    api.merge(merged, [c.lora_at_q(seed=5)], tmp_path / "two")
    c.flip(tmp_path / "two" / receipt.FOLDER / receipt.PARENT / receipt.FILE, -1)
    refused(tmp_path / "two", tmp_path)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_same_bytes_whatever_the_number_of_threads(
    base: Path, stack: list[Any], merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(workers, "available", lambda: threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        api.merge(base, stack, tmp_path / "again")
        assert torch.get_num_threads() == threads
        api.unmerge(merged, tmp_path / "back")
    finally:
        torch.set_num_threads(before)
    assert c.digests(tmp_path / "again") == c.digests(merged)
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_progress_ends_at_the_end(base: Path, stack: list[Any], merged: Path, tmp_path: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {"merging": [], "unmerging": []}
    collect = lambda done, total, what: told[what].append((done, total))
    api.merge(base, stack, tmp_path / "again", progress=collect)
    api.unmerge(merged, tmp_path / "back", progress=collect)
    for seen in told.values():
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        headers_alone = sum(len(p.read_bytes()) for p in base.glob("*.safetensors")) - sum(
            t.nbytes for t in c.tensors_of(base).values()
        )
        assert seen[-1][1] - seen[-1][0] == headers_alone
