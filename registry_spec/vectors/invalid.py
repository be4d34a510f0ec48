"""Files that every reader refuses. A name is the reason, as the error class in snake case, and what is behind `--`."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from typing import Any

import rfc8785
from pack import compact, f32, header, pack, raw
from valid import LORA, Q, factors, lora

A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}


def plain(document: dict[str, Any] | str, size: int = 16) -> bytes:
    """A safetensors file of this header with `size` bytes of data."""
    text = document if isinstance(document, str) else compact(document)
    return header(text) + bytes(size)


def with_entry(size: int = 8, **fields: Any) -> bytes:
    return plain({"a": {**A, **fields}}, size)


def headers() -> Iterator[tuple[str, bytes]]:
    """The length field, the JSON, its keys."""
    good = pack(lora(), factors())
    yield "header_truncated", good[:4]
    yield "header_truncated--empty", b""
    yield "header_truncated--json", good[:100]
    yield "header_too_large", struct.pack("<Q", 100_000_001) + b"{}"
    yield "header_too_large--all_bits", b"\xff" * 16
    yield "header_not_utf8", header(b'{"\xff":{}}')
    yield "header_not_utf8--half_pair", plain('{"\\ud800:A":' + compact(A) + "}", 8)
    yield "header_not_json", header('{"a":')
    yield "header_not_json--empty", struct.pack("<Q", 0)
    yield "header_not_json--array", header("[]")
    yield "header_not_json--leading_space", header(" {}")
    yield "header_not_json--nan", plain(compact({"a": A}).replace("[2]", "[NaN]"), 8)
    yield "header_too_deep", header('{"a":' + "[" * 20_000)
    yield "key_duplicate", plain('{"a":' + compact(A) + ',"a":' + compact(B) + "}")
    yield "key_duplicate--escaped", plain('{"a":' + compact(A) + ',"\\u0061":' + compact(B) + "}")
    yield "key_duplicate--field", plain('{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', 8)
    yield "key_duplicate--metadata", plain('{"__metadata__":{"adaptr":"{}","adaptr":"{}"}}', 0)
    yield "key_too_long", plain({"k" * 1025: A}, 8)
    yield "metadata_invalid", plain({"__metadata__": {"adaptr": {}}}, 0)
    yield "metadata_invalid--list", plain({"__metadata__": []}, 0)


def entries() -> Iterator[tuple[str, bytes]]:
    """What is said of one tensor, and how tensors lie."""
    yield "entry_malformed", plain({"a": 1}, 0)
    yield "entry_malformed--missing", plain({"a": {"dtype": "F32", "shape": [2]}}, 8)
    yield "entry_malformed--unknown", with_entry(note="x")
    yield "dtype_unknown", with_entry(dtype="F31")
    yield "dtype_unknown--list", with_entry(dtype=["F32"])
    yield "dtype_unknown--half_bytes", pack(lora(), {**factors(), f"{Q}:A": ("F4", (2, 3), b"123")})
    yield "shape_invalid", with_entry(shape=[-2])
    yield "shape_invalid--bool", with_entry(shape=[True, 2])
    yield "shape_invalid--float", with_entry(shape=[2.0])
    yield "shape_invalid--overflow", with_entry(shape=[2**62, 4])
    yield "shape_invalid--rank", with_entry(shape=[1] * 65)
    yield "offsets_invalid", with_entry(data_offsets=[8, 0])
    yield "offsets_invalid--negative", with_entry(data_offsets=[-8, 0])
    yield "offsets_invalid--three", with_entry(data_offsets=[0, 8, 8])
    yield "offsets_invalid--huge", with_entry(data_offsets=[0, 2**64])
    yield "offsets_overlap", plain({"a": A, "b": {**B, "data_offsets": [4, 12]}}, 12)
    yield "offsets_overlap--same", plain({"a": A, "b": A}, 8)
    yield "offsets_overlap--nothing_inside", plain({"a": A, "b": {**B, "shape": [0], "data_offsets": [4, 4]}}, 8)
    yield "offsets_hole", plain({"a": A, "b": {**B, "data_offsets": [12, 20]}}, 20)
    yield "offsets_hole--before", with_entry(16, data_offsets=[8, 16])
    yield "size_mismatch", with_entry(shape=[3])
    yield "size_mismatch--scalar", with_entry(shape=[])
    yield "data_truncated", plain({"a": A, "b": B}, 15)
    yield "data_trailing", plain({"a": A, "b": B}, 17)


def edited(**changes: Any) -> bytes:
    """The minimal LoRA with manifest fields changed; `None` takes one out."""
    manifest = {**lora(), **changes}
    return pack({key: value for key, value in manifest.items() if value is not None}, factors())


def target(**changes: Any) -> bytes:
    manifest = copy.deepcopy(lora())
    found = {**manifest["targets"][Q], **changes}
    manifest["targets"][Q] = {key: value for key, value in found.items() if value is not None}
    return pack(manifest, factors())


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


def manifests() -> Iterator[tuple[str, bytes]]:
    """The text of the manifest and its fields."""
    good = rfc8785.dumps(lora()).decode()
    yield "manifest_missing", plain({"a": A, "b": B})
    yield "manifest_not_json", pack("{", factors())
    yield "manifest_not_json--array", pack("[]", factors())
    yield "manifest_not_json--nan", pack(good[:-1] + ',"z":NaN}', factors())
    yield "manifest_not_canonical", pack(good.replace(":", ": ", 1), factors())
    yield "manifest_not_canonical--order", pack('{"z":1,' + good[1:], factors())
    yield "manifest_not_canonical--twice", pack('{"format":1,' + good[1:], factors())
    yield "manifest_not_canonical--number", pack(good.replace('"alpha":4', '"alpha":4.0', 1), factors())
    yield "manifest_not_canonical--escape", pack(good.replace("lora", "l\\u006fra"), factors())
    yield "manifest_not_canonical--empty_field", edited(summary="")
    yield "manifest_not_canonical--unsaid", pack(lora(), {**factors(), "lm_head.weight:=": f32(2)})
    yield "manifest_too_deep", edited(z=nested(32))
    yield "field_missing", edited(format=None)
    yield "field_missing--method", edited(method=None)
    yield "field_missing--targets", edited(targets=None)
    yield "field_missing--version", edited(method={"name": "lora", "config": LORA})
    yield "field_missing--shape", target(shape=None)
    yield "field_invalid", target(kind="square")
    yield "field_invalid--format", edited(format="1")
    yield "field_invalid--name", edited(name=7)
    yield "field_invalid--half_pair", pack(good[:-1] + ',"z":"\\ud800"}', factors())
    yield "field_invalid--infinity", pack(good[:-1] + ',"z":1e999}', factors())
    yield "field_invalid--method_name", edited(method={"name": "../lora", "version": 1, "config": LORA})
    yield "field_invalid--kind_list", target(kind=["linear"])
    yield "field_invalid--shape_rank", target(shape=[4, 3, 2])
    yield "field_invalid--shape_negative", target(shape=[-4, 3])
    yield "field_invalid--target_field", target(note="x")
    yield "field_invalid--config_field", target(config={**LORA, "q": 1})
    yield "field_invalid--config_type", target(config={**LORA, "r": "2"})
    yield "field_invalid--kind_of_method", target(kind="norm", shape=[4])
    yield "field_invalid--part_name", edited(requires=["parts"], parts={"a.b": {"method": {}, "targets": {}}})
    yield "field_invalid--base", edited(base={"colour": "red"})
    yield "format_too_new", edited(format=2)
    yield "feature_unknown", edited(requires=["telepathy"])
    yield "version_unknown", edited(method={"name": "lora", "version": 2, "config": LORA})


def tensors() -> Iterator[tuple[str, bytes]]:
    """Tensors that are not those of the manifest."""
    quantized = lora(requires=["quantized"], quantization={"scheme": "int8", "error": 0})
    yield "tensor_missing", pack(lora(), {f"{Q}:A": f32(2, 3)})
    yield "tensor_missing--all", pack(lora(), {})
    yield "tensor_missing--scale", pack(quantized, {**factors(), f"{Q}:A": raw("I8", 2, 3)})
    yield "tensor_unexpected", pack(lora(), {**factors(), f"{Q}:C": f32(2)})
    yield "tensor_unexpected--target", pack(lora(), {**factors(), "other:A": f32(2, 3)})
    yield "tensor_unexpected--scale", pack(quantized, {**factors(), f"{Q}:C.scale": f32(1)})
    yield "key_malformed", pack(lora(), {**factors(), "A": f32(2)})
    yield "key_malformed--no_param", pack(lora(), {**factors(), f"{Q}:": f32(2)})
    yield "key_malformed--nowhere", pack(lora(requires=["replaced"]), {**factors(), ":=": f32(2)})
    yield "key_malformed--control", pack(lora(), {**factors(), "a\x00F32\x002\n:B": f32(2)})
    yield "shape_error", pack(lora(), {**factors(), f"{Q}:A": f32(3, 2)})
    yield "shape_error--size_unknown", target(shape=[0, 3])
    yield "shape_error--scale", pack(quantized, {**factors(), f"{Q}:A": raw("I8", 2, 3), f"{Q}:A.scale": f32(3, 1)})
    yield from packed()


def packed() -> Iterator[tuple[str, bytes]]:
    """Codes of four bits without, or with other, numbers of their blocks."""
    wide = {"r": 2, "alpha": 4, "dropout": 0, "rslora": False, "bias": False}
    target = {"kind": "linear", "shape": [4, 36], "config": wide}
    manifest = lora(requires=["packed", "quantized"], quantization={"scheme": "nf4", "error": 0.1, "of": "delta"})
    manifest["targets"] = {Q: target}
    codes, B = {f"{Q}:A": raw("U8", 2, 18)}, {f"{Q}:B": f32(4, 2)}
    blocks = {f"{Q}:A.absmax": f32(2, 1)}
    unpacked = lora(requires=["quantized"], quantization=manifest["quantization"])
    unpacked["targets"] = {Q: target}
    yield "manifest_not_canonical--packed_unsaid", pack(unpacked, {**codes, **blocks, **B})
    yield "tensor_missing--blocks", pack(unpacked, {**codes, **B})
    yield "tensor_unexpected--blocks", pack(manifest, {**codes, **blocks, **B, f"{Q}:C.step": f32(2, 1)})
    yield "tensor_unexpected--two_blocks", pack(manifest, {**codes, **blocks, **B, f"{Q}:A.step": f32(2, 2)})
    yield "shape_error--blocks", pack(manifest, {**codes, f"{Q}:A.absmax": f32(2, 2), **B})
    yield "shape_error--blocks_axes", pack(manifest, {**codes, f"{Q}:A.absmax": f32(1, 1), **B})
    yield "shape_error--blocks_whole", pack(manifest, {**codes, f"{Q}:A.absmax": f32(2, 18), **B})
    yield "shape_error--blocks_dtype", pack(manifest, {**codes, f"{Q}:A.absmax": raw("I32", 2, 1), **B})
    yield "shape_error--codes_dtype", pack(manifest, {f"{Q}:A": raw("F8_E4M3", 2, 18), **blocks, **B})
    B, rest = {f"{Q}:B": f32(4, 2)}, {f"{Q}:A": f32(1, 36), f"{Q}:A.rest": raw("F16", 2, 36)}
    yield "shape_error--rest", pack(manifest, {**rest, **B})
    yield "shape_error--rest_axes", pack(manifest, {**rest, f"{Q}:A.rest": f32(2, 35), **B})
    yield "shape_error--rest_as_long", pack(manifest, {**rest, f"{Q}:A.rest": f32(1, 36), **B})
    yield "tensor_unexpected--rest", pack(manifest, {f"{Q}:A": f32(2, 36), **B, f"{Q}:C.rest": f32(1, 1)})
    yield "tensor_unexpected--rest_of_rest", pack(manifest, {**rest, f"{Q}:A.rest.rest": f32(1, 36), **B})
    yield "shape_error--codes", pack(manifest, {f"{Q}:A": raw("U8", 2, 17), **blocks, **B})


def vectors() -> dict[str, bytes]:
    return {name: content for part in (headers, entries, manifests, tensors) for name, content in part()}
