"""Files that every reader accepts, by name."""

from __future__ import annotations

import struct
from typing import Any

from pack import Tensor, f32, pack, raw

Q = "model.layers.0.self_attn.q_proj"
LORA = {"r": 2, "alpha": 4, "dropout": 0, "rslora": False, "bias": False}


def lora(path: str = Q, kind: str = "linear", shape: tuple[int, ...] = (4, 3), **more: Any) -> dict[str, Any]:
    """The manifest of a LoRA on one target."""
    target = {"kind": kind, "shape": list(shape), "config": LORA}
    return {
        "format": 1,
        "method": {"name": "lora", "version": 1, "config": LORA},
        "targets": {path: target},
        **more,
    }


def factors(path: str = Q) -> dict[str, Tensor]:
    return {f"{path}:A": f32(2, 3), f"{path}:B": f32(4, 2)}


def method(name: str, config: dict[str, Any], **targets: tuple[str, list[int]]) -> dict[str, Any]:
    """Method and targets; a target's name is its path with `__` for dots."""
    places = {path.replace("__", "."): spec for path, spec in targets.items()}
    return {
        "method": {"name": name, "version": 1, "config": config},
        "targets": {path: {"kind": kind, "shape": shape, "config": config} for path, (kind, shape) in places.items()},
    }


def prompt() -> bytes:
    config = {"tokens": 2, "rows": 2, "init": "normal"}
    return pack({"format": 1, **method("prompt", config, **{"": ("model", [3])})}, {":P": f32(2, 3)})


def mam() -> bytes:
    prefix = method("prefix", {"tokens": 2, "position_offset": "none"}, layers__0__self_attn=("attention", [2, 3]))
    config = {"m": 2, "s": 4, "activation": "relu", "dropout": 0, "reads": "layers.0.mlp"}
    parallel = method("parallel", config, layers__0__mlp=("module", [3]))
    manifest = {
        "format": 1,
        "requires": ["parts"],
        "parts": {"prefix": prefix, "parallel": parallel},
        **method("mam", {"tokens": 2, "m": 2, "s": 4}),
    }
    attention, mlp = "layers.0.self_attn", "layers.0.mlp:parallel"
    tensors = {f"{attention}:prefix.{name}": f32(2, 2, 3) for name in "KV"}
    tensors |= {f"{mlp}.D": f32(2, 3), f"{mlp}.b_d": f32(2), f"{mlp}.U": f32(3, 2), f"{mlp}.b_u": f32(3)}
    return pack(manifest, tensors)


def int8() -> bytes:
    tensors = {f"{Q}:A": raw("I8", 2, 3), f"{Q}:B": raw("I8", 4, 2)}
    tensors |= {f"{Q}:A.scale": f32(2, 1), f"{Q}:B.scale": f32(1, 2)}
    return pack(lora(requires=["quantized"], quantization={"scheme": "int8", "error": 0.004}), tensors)


def packed() -> bytes:
    """Blocks of both lengths that end before the axis does, and more than one; a tensor that stays as it is."""
    config = {**LORA, "r": 3}
    target = {"kind": "linear", "shape": [70, 36], "config": config}
    manifest = lora(requires=["packed", "quantized"], quantization={"scheme": "mixed", "error": 0.1, "of": "delta"})
    manifest |= {"method": {"name": "lora", "version": 1, "config": config}, "targets": {Q: target, "up": target}}
    tensors = {f"{Q}:A": raw("U8", 3, 18), f"{Q}:A.step": raw("BF16", 3, 2)}
    tensors |= {f"{Q}:B": raw("U8", 35, 3), f"{Q}:B.absmax": f32(2, 3)}
    return pack(manifest, {**tensors, "up:A": raw("F8_E4M3", 3, 36), "up:A.scale": f32(3, 1), "up:B": f32(70, 3)})


def two_pieces() -> bytes:
    """Factors of which the first two indices of the rank are stored in one way and the third in another."""
    config = {**LORA, "r": 3}
    manifest = lora(requires=["packed", "quantized"], quantization={"scheme": "mixed", "error": 0.1, "of": "delta"})
    target = {"kind": "linear", "shape": [4, 36], "config": config}
    manifest |= {"method": {"name": "lora", "version": 1, "config": config}, "targets": {Q: target}}
    tensors = {f"{Q}:A": raw("I8", 2, 36), f"{Q}:A.scale": f32(2, 1)}
    tensors |= {f"{Q}:A.rest": raw("U8", 1, 18), f"{Q}:A.rest.step": f32(1, 2)}
    return pack(manifest, {**tensors, f"{Q}:B": raw("F16", 4, 2), f"{Q}:B.rest": f32(4, 1)})


def replaced() -> bytes:
    return pack(lora(requires=["replaced"]), {**factors(), "lm_head.weight:=": raw("BF16", 5, 3)})


def odd_shapes() -> bytes:
    tensors = {"rows.none:=": raw("F16", 0, 3), "also.none:=": f32(0), "scale:=": f32()}
    manifest = {"format": 1, "requires": ["replaced"], **method("lora", LORA)}
    return pack(manifest, tensors)


def kinds() -> bytes:
    """LoRA on a convolution, a transposed layer, a look-up table and a stack of experts."""
    manifest = lora("conv", "conv2d", (4, 3, 1, 2))
    for path, kind, shape in (
        ("t", "linear_t", [4, 3]),
        ("e", "embedding", [4, 3]),
        ("mlp.up", "experts_t", [2, 4, 3]),
    ):
        manifest["targets"][path] = {"kind": kind, "shape": shape, "config": LORA}
    tensors = {**factors("t"), **factors("e"), "conv:A": f32(2, 3, 1, 2), "conv:B": f32(4, 2, 1, 1)}
    return pack(manifest, {**tensors, "mlp.up:A": f32(2, 2, 3), "mlp.up:B": f32(2, 4, 2)})


def everything() -> bytes:
    """All optional fields."""
    return pack(
        lora(
            name="answers",
            release="2.0.1",
            summary="Answers in one word.",
            license="Apache-2.0",
            tags=["qa", "short"],
            base={
                "id": "acme/tiny",
                "revision": "0123abc",
                "architecture": "LlamaForCausalLM",
                "structure": "sha256:" + "0" * 64,
                "content": "sha256:" + "1" * 64,
                "ties": [["lm_head.weight", "model.embed_tokens.weight"]],
                "quantization": "bitsandbytes",
            },
            lineage={"operation": "train", "arguments": {"steps": 30}, "parents": []},
            training={"seed": 0, "data": "sha256:" + "2" * 64, "versions": {"torch": "2.13.0"}},
            foreign={"peft": {"inference_mode": True}},
        ),
        factors(),
    )


def numbers() -> bytes:
    """What RFC 8785 says about numbers, in a field that nobody knows."""
    found = [1e-7, 0.000001, 1e21, 1e20, 333333333.33333329, 9007199254740991, -0.5, 5e-324, 123456789012345680000.0]
    return pack(lora(numbers=found), factors())


def nan_weights() -> bytes:
    """A reader of the format does not judge values."""
    bits = struct.pack("<6I", 0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000, 1, 0x7F800001)
    return pack(lora(), {**factors(), f"{Q}:A": ("F32", (2, 3), bits)})


def vectors() -> dict[str, bytes]:
    unicode = "модель.层.0.😀.\ue000"
    return {
        "minimal_lora": pack(lora(), factors()),
        "prompt": prompt(),
        "composite_mam": mam(),
        "quantized_int8": int8(),
        "quantized_packed": packed(),
        "quantized_two_pieces": two_pieces(),
        "quantized_bf16": pack(
            lora(requires=["quantized"], quantization={"scheme": "bf16", "error": 0.001}),
            {f"{Q}:A": raw("BF16", 2, 3), f"{Q}:B": raw("BF16", 4, 2)},
        ),
        "replaced": replaced(),
        "odd_shapes": odd_shapes(),
        "kinds": kinds(),
        "size_unknown": pack({"format": 1, **method("ia3", {"side": "out"}, q=("linear", [4, 0]))}, {"q:l": f32(4)}),
        "mixed_dtypes": pack(lora(), {f"{Q}:A": raw("F64", 2, 3), f"{Q}:B": raw("F16", 4, 2)}),
        "unicode_target": pack(lora(unicode), factors(unicode)),
        "colon_in_target": pack(lora("blocks:0.q"), factors("blocks:0.q")),
        "unknown_field_kept": pack(lora(**{"x-lab": {"note": None, "😀": 1, "\ue000": 2}}), factors()),
        "unknown_method": pack(
            {"format": 1, **method("acme-rank", {"deep": [1, [2]]}, x=("linear", [4, 3]))}, {"x:Z": f32(7)}
        ),
        "everything": everything(),
        "numbers": numbers(),
        "nan_weights": nan_weights(),
    }
