"""A receipt is input like any other: what it says is held against what lies on the disk, and its names lead nowhere."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints as c
from adaptr import api
from adaptr.checkpoint import open_checkpoint
from adaptr.errors import AdaptrError, DigestMismatch, FieldInvalid, InputError, NotMerged
from adaptr.format import header as headers
from adaptr.merging import patch, receipt, receipt_check
from adaptr.merging.patch import Differences

Q = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"
Blobs = dict[str, bytes]
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return c.saved("llama", tmp_path / "base", torch.bfloat16)


@pytest.fixture
def merged(base: Path, tmp_path: Path) -> Path:
    api.merge(base, [c.lora_at_q()], tmp_path / "out")
    return tmp_path / "out"


def blobs_of(found: receipt.Receipt) -> Blobs:
    return {key: b"".join(found.pieces(key)) for key in found.header.entries}


def forged(merged: Path, change: Callable[[dict[str, Any], Blobs], Any]) -> None:
    """The receipt of `merged` with another document or other blobs."""
    found = receipt.read(merged)
    document, blobs = (
        json.loads(json.dumps(found.document)),
        {key: b"".join(found.pieces(key)) for key in found.header.entries},
    )
    change(document, blobs)
    raw, header = headers.build(
        {key: ("U8", (len(b),)) for key, b in blobs.items()}, {receipt.KEY: json.dumps(document)}
    )
    (merged / receipt.FOLDER / receipt.FILE).write_bytes(raw + b"".join(blobs[key] for key in header.entries))


def refused(merged: Path, kind: type[AdaptrError]) -> str:
    out = merged.with_name("back")
    with pytest.raises(kind) as caught:
        api.unmerge(merged, out)
    assert not out.exists()
    assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors", "other.safetensors", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl",
        "modeling_llama.py", "", "../config.json", "/etc/hosts", "a/config.json", ".", "..", "config.json/",
    ],
)  # fmt: skip
def test_only_what_a_merge_changes_comes_back_from_a_receipt(merged: Path, name: str) -> None:
    forged(merged, lambda d, blobs: blobs.update({f"file:{name}": b"{}"}))
    refused(merged, FieldInvalid)


def test_other_weights_never_pass_for_the_base(base: Path, merged: Path) -> None:
    """Found in 0.1.0: weights written after the check, reported as equal to the base's."""
    evil = (base / "model.safetensors").read_bytes()[:-2] + b"\x00\x41"
    forged(merged, lambda d, blobs: blobs.update({"file:model.safetensors": evil}))
    assert "model.safetensors" in refused(merged, FieldInvalid)


def test_the_files_of_a_receipt_have_a_size(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_check, "LARGEST_FILE", 1000)
    forged(merged, lambda d, blobs: blobs.update({"file:tokenizer.json": b" " * 1001}))
    refused(merged, FieldInvalid)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (("exact",), "yes"), (("tied",), "all"), (("tied",), ["both"]), (("adapters",), {}), (("adapters",), [3]),
        (("adapters", 0, "weight"), "1"), (("adapters", 0, "weight"), 10**400), (("adapters", 0, "weight"), True),
        (("adapters", 0, "weights"), 5), (("adapters", 0, "name"), None), (("adapters", 0, "digest"), "sha256:../x"),
        (("base",), []), (("base", "headers"), 1), (("base", "headers"), {"../x": "sha256:" + "0" * 64}),
        (("base", "config"), "no"), (("base", "receipt"), {}), (("base", "files"), {"a/../b": "sha256:" + "0" * 64}),
        (("base", "files"), 7), (("tensors",), []), (("tensors", Q), []), (("tensors", Q, "digest"), "sha256:"),
        (("tensors", Q, "shape"), [10**30, 10**30]), (("tensors", Q, "shape"), "32"), (("tensors", Q, "dtype"), "I8"),
        (("tensors", Q, "old"), "x"), (("tensors", Q, "added"), False), (("tensors", Q, "kept"), {"k": [-1]}),
        (("untouched",), []), (("untouched", NORM), "sha256:no"),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_named(merged: Path, field: tuple[Any, ...], value: Any) -> None:
    def change(document: dict[str, Any], blobs: Blobs) -> None:
        at: Any = document
        for key in field[:-1]:
            at = at[key]
        at[field[-1]] = value

    forged(merged, change)
    assert str(field[0]) in refused(merged, FieldInvalid)


def test_a_document_that_is_none(merged: Path) -> None:
    path = merged / receipt.FOLDER / receipt.FILE
    for text in ("", "[]", "nothing", '{"format": 2, "format": 2}', '{"format": NaN}', '{"a":' * 5000):
        raw, _ = headers.build({}, {receipt.KEY: text})
        path.write_bytes(raw)
        refused(merged, InputError)


def test_a_tensor_that_was_left_alone_is_compared_too(merged: Path) -> None:
    stored = open_checkpoint(merged).tensors[NORM]
    c.flip(stored.shard.path, stored.offset, mask=0x40)
    assert f"`{NORM}` does not come back as the base's" in refused(merged, DigestMismatch)


def test_an_older_receipt_says_what_was_not_compared(base: Path, merged: Path, tmp_path: Path) -> None:
    def older(document: dict[str, Any], blobs: Blobs) -> None:
        del document["untouched"], document["base"]["files"]

    forged(merged, older)
    report = api.unmerge(merged, tmp_path / "back")
    count = len(c.tensors_of(base))
    assert (report.compared, report.taken) == (1, count - 1)
    assert f"{count - 1} tensors" in report.notes[0]
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_a_receipt_that_knows_of_too_few_or_too_many(merged: Path) -> None:
    forged(merged, lambda d, blobs: d["untouched"].pop(NORM))
    assert NORM in refused(merged, DigestMismatch)
    forged(merged, lambda d, blobs: d["untouched"].update({NORM: "sha256:" + "0" * 64}))
    assert NORM in refused(merged, DigestMismatch)
    forged(merged, lambda d, blobs: d["untouched"].update(ghost="sha256:" + "0" * 64))
    assert "ghost" in refused(merged, DigestMismatch)


def test_a_tensor_that_the_base_had_was_not_added(merged: Path) -> None:
    """Found in 0.1.0: `--tied untie` wrote over a stored head, noted it as new, and gave another one back."""
    forged(merged, lambda d, blobs: (d["untouched"].pop(NORM), d["tensors"].update({NORM: {"added": True}})))
    assert NORM in refused(merged, DigestMismatch)


def resized(merged: Path, name: str, shape: list[int]) -> bytes:
    """The shard's header with another shape for one tensor."""
    (shard,) = open_checkpoint(merged).shards
    document, at = {"__metadata__": dict(shard.header.metadata)}, 0
    for key, entry in sorted(shard.header.entries.items(), key=lambda item: item[1].start):
        size = 2 * shape[0] * shape[1] if key == name else entry.nbytes
        document[key] = {
            "dtype": entry.dtype,
            "shape": shape if key == name else list(entry.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    raw = json.dumps(document).encode()
    return len(raw).to_bytes(8, "little") + raw


@pytest.mark.parametrize("old", [False, True])
def test_a_header_makes_no_file_without_end(merged: Path, old: bool) -> None:
    raw = resized(merged, Q, [1 << 20, 1 << 20])

    def change(document: dict[str, Any], blobs: Blobs) -> None:
        blobs["header:model.safetensors"] = raw
        if old:
            document["tensors"][Q]["old"], blobs[f"{Q}:old"] = True, zlib.compress(bytes(1 << 20))

    forged(merged, change)
    assert Q in refused(merged, DigestMismatch)


def test_a_copy_that_unpacks_to_more_than_its_tensor(merged: Path) -> None:
    def change(document: dict[str, Any], blobs: Blobs) -> None:
        document["tensors"][Q]["old"], blobs[f"{Q}:old"] = True, zlib.compress(bytes(1 << 24))

    forged(merged, change)
    assert Q in refused(merged, DigestMismatch)


@pytest.mark.parametrize("raw", [b"", b"x", b"\xff" * 8, bytes(8), (2).to_bytes(8, "little") + b"{}"])
def test_a_header_that_is_none(merged: Path, raw: bytes) -> None:
    forged(merged, lambda d, blobs: blobs.update({"header:model.safetensors": raw}))
    if raw:
        refused(merged, AdaptrError)  # type: ignore[type-abstract]
    else:
        api.unmerge(merged, merged.with_name("back"))


@pytest.mark.parametrize("kept", [{f"{Q}:0.0.g": [32]}, {f"{Q}:x.y.z": [3]}, {"nothing": [1]}, {f"{Q}:0.9.g": [1, 1]}])
def test_what_an_inverse_needs_and_does_not_get(base: Path, tmp_path: Path, kept: dict[str, Any]) -> None:
    api.merge(base, [c.randomised(base, "dora", "attn.q")], tmp_path / "out")
    forged(tmp_path / "out", lambda d, blobs: d["tensors"][Q].update(kept=kept))
    for key in kept:
        forged(tmp_path / "out", lambda d, blobs, key=key: blobs.update({key: bytes(8)}))  # type: ignore[misc]
    assert Q in refused(tmp_path / "out", DigestMismatch)


def long(folder: Path, key: str, size: int) -> None:
    """A receipt that says it holds `size` bytes under `key`, where its file has a hole."""
    found = receipt.read(folder)
    blobs = blobs_of(found)
    sizes = {**{k: len(blob) for k, blob in blobs.items()}, key: size}
    raw, header = headers.build({k: ("U8", (n,)) for k, n in sizes.items()}, dict(found.header.metadata))
    with open(found.path, "wb") as file:
        file.write(raw)
        for k, entry in header.entries.items():
            file.seek(header.data + entry.start)
            file.write(blobs[k] if k != key else b"")
        file.truncate(header.end)


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [1 << 29, 1 << 40])
@pytest.mark.parametrize(
    "key", [f"{Q}:patch", f"{Q}:bits", f"{Q}:old", f"{Q}:0.0.g", "header:model.safetensors", "file:config.json"]
)
def test_no_blob_is_read_that_is_longer_than_it_can_be(base: Path, tmp_path: Path, key: str, size: int) -> None:
    """A tiny file says it holds half a gigabyte, or a terabyte: nothing of that size is asked for."""
    merged = tmp_path / "out"
    api.merge(base, [c.randomised(base, "dora", "attn.q")], merged)
    assert f"{Q}:0.0.g" in receipt.read(merged).header.entries
    if key.endswith(":old"):
        forged(merged, lambda d, blobs: d["tensors"][Q].update(old=True))
    long(merged, key, size)
    assert peak_of(lambda: refused(merged, AdaptrError)) < 20e6  # type: ignore[type-abstract]


@pytest.mark.parametrize("key", ["fp16.weight:patch", "dora.weight:patch", "dora.weight:0.0.g"])
def test_nor_of_a_receipt_of_format_2(key: str, tmp_path: Path) -> None:
    merged = shutil.copytree(GOLDEN / "receipt-2/merged", tmp_path / "out")
    long(merged, key, 1 << 40)
    assert key in refused(merged, DigestMismatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 255, 70000])
def test_no_patch_is_longer_than_the_longest(count: int, dtype: torch.dtype) -> None:
    raw = os.urandom(count * dtype.itemsize)
    found = Differences()
    true = torch.frombuffer(bytearray(raw), dtype=dtype)
    found.add(true, torch.zeros(count, dtype=dtype), 0)
    assert 0 < len(found.encode()) <= patch.longest(count, dtype.itemsize)
    far = Differences()
    far.note(torch.tensor([count - 1]).numpy(), true[-1:].view(patch.integer(dtype.itemsize)).numpy(), 0)
    assert len(far.encode()) <= patch.longest(count, dtype.itemsize)


def test_an_adapter_that_is_not_there(merged: Path) -> None:
    receipt.read(merged).adapter_file(0).unlink()
    refused(merged, NotMerged)
    os.mkfifo(receipt.read(merged).adapter_file(0))
    refused(merged, NotMerged)


def test_nothing_but_receipts_and_their_adapters_comes_back_from_below(merged: Path, tmp_path: Path) -> None:
    before = c.digests(merged)
    api.merge(merged, [c.lora_at_q(seed=3)], tmp_path / "two")
    below = tmp_path / "two" / receipt.FOLDER / receipt.PARENT
    (below / "evil.pkl").write_bytes(pickle.dumps(1))
    (below / "secret").symlink_to("/etc/hostname")
    api.unmerge(tmp_path / "two", tmp_path / "one")
    assert c.digests(tmp_path / "one") == before


def test_what_was_written_beside_the_weights_since_is_named(merged: Path, tmp_path: Path) -> None:
    (merged / "generation_config.json").write_text("{}")
    (merged / "notes.txt").write_text("mine")
    report = api.unmerge(merged, tmp_path / "back")
    assert any("generation_config.json" in note for note in report.notes)
    assert not (tmp_path / "back/notes.txt").exists()
