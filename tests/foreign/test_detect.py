"""What a path holds is named from its first bytes and keys, without torch and without loading anything."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr import foreign
from adaptr.foreign import detect
from adaptr.foreign.seen import pickled

KEYS = {
    "lora_unet_down_blocks_0.lora_down.weight": "kohya weights",
    "unet:3:up": "cloneofsimo's lora weights",
    "transformer.blocks.0.attn.to_q.lora_A.weight": "diffusers weights",
    "unet.down_blocks.0.to_k.lora.down.weight": "diffusers weights",
    "model.layers.0.self_attn.q_proj.lora_a": "MLX weights",
    "layers.0.attn.q_proj.lora_a.weight": "torchtune weights",
    "transformer.h.2.attn.gating_factor": "LitGPT weights",
    "transformer.h.0.attn.qkv.lora_A": "LitGPT weights",
    "roberta.encoder.layer.0.query.lora_A": "loralib weights",
    "bert.encoder.layer.0.output.adapters.x.adapter_down.0.weight": "AdapterHub weights",
    "double_blocks.0.processor.qkv_lora1.down.weight": "XLabs weights",
    "decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight": "NeMo weights",
    "base_model.model.q.lora_A.weight": "PEFT weights",
    "diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight": "ComfyUI weights",
    "transformer.transformer_blocks.0.attn.to_q.lora_up.weight": "OneTrainer weights",
    "text_encoder_2.layers.0.q_proj.lora_down.weight": "OneTrainer weights",
    "v_head.summary.weight": "a TRL value head",
    "input_embeddings": "embeddings that vLLM loads beside a LoRA",
    "model.layers.0.self_attn.q_proj.adapters.lora.A": detect.ATTACHED,
    "something.weight": "a safetensors file of no known tool",
}


def safetensors(path: Path, keys: list[str]) -> Path:
    document = {k: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i, k in enumerate(keys)}
    raw = json.dumps(document).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(len(keys)))
    return path


@pytest.mark.parametrize("key", KEYS)
def test_keys(tmp_path: Path, key: str) -> None:
    assert detect.name_of(safetensors(tmp_path / "a.safetensors", [key])) == KEYS[key]


def test_what_is_known_and_not_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "xlora_config.json").write_text("{}")
    with pytest.raises(e.UnknownFormat, match=r"is an X-LoRA; its experts are adapters.*`adaptr gate` learns"):
        foreign.of(tmp_path)
    with pytest.raises(e.UnknownFormat, match="is a TRL value head; it scores texts"):
        foreign.of(safetensors(tmp_path / "a.safetensors", ["v_head.summary.weight"]))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"GGUF\3\0\0\0", "a GGUF file (llama.cpp) that holds no LoRA"),
        (b"algg\1\0\0\0", "an obsolete llama.cpp adapter (ggla)"),
        (b"\x80\x04]\x94.", "a pickle of no known tool"),
        (b"hello", ""),
        (b"", ""),
    ],
)
def test_first_bytes(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(raw)
    assert detect.name_of(tmp_path / "a") == said


def test_npz_of_mlx(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("model.layers.0.self_attn.q_proj.lora_a.npy", b"")
    (tmp_path / "x.npz").write_bytes(raw.getvalue())
    assert detect.name_of(tmp_path / "x.npz") == "MLX weights"


def test_damaged_zip(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(e.ForeignError, match="damaged"):
        detect.name_of(tmp_path / "x.bin")


def test_pointer_says_what_is_missing(tmp_path: Path) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123456\n"
    (tmp_path / "x.safetensors").write_text(text)
    with pytest.raises(e.LfsPointer, match="123456 bytes, sha256:aaa"):
        foreign.of(tmp_path / "x.safetensors")


def test_a_base_model_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(e.UnknownFormat, match=r"is a base model; .*adaptr extract"):
        foreign.of(tmp_path)


def test_a_checkpoint_of_a_model_in_training_says_how_its_adapter_is_saved(tmp_path: Path) -> None:
    """What transformers' Trainer writes: the whole base, and the trained tensors under names of no format."""
    import adaptr
    import tiny

    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora", ["attn.q"], r=2)):
        model.save_pretrained(tmp_path / "checkpoint-4")
    for place in ("checkpoint-4", "checkpoint-4/model.safetensors"):
        with pytest.raises(e.UnknownFormat, match=r"adapters of adaptr on it; .*session\.adapted"):
            adaptr.load(tmp_path / place)


def test_inspecting_imports_no_torch(shared: Path, tmp_path: Path) -> None:
    """Neither for a PEFT folder nor for an adaptr file, nor to name what can't be read."""
    import adaptr

    folder = shared / "real" / "ref-peft-tinyshakes" / "lora-dora"
    adaptr.convert(folder, tmp_path / "a.adaptr.safetensors")
    code = f"""
import sys, adaptr
print(adaptr.inspect({str(folder)!r}).method, adaptr.inspect({str(tmp_path / "a.adaptr.safetensors")!r}).trained)
try: adaptr.load({str(shared / "real" / "loravit-custom")!r})
except adaptr.errors.UnknownFormat: pass
print(sorted({{"torch", "numpy", "transformers", "safetensors", "peft"}} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["dora 30592", "[]"]


@pytest.mark.parametrize("unit", [".adapters.a", ".lora_A_adapter.", ".lora.up", "unet:1", ".attn.qkv", "a" * 7])
@pytest.mark.parametrize("end", ["", "\n", ".x\n"])
def test_a_long_key_is_looked_at_in_no_time(unit: str, end: str, tmp_path: Path) -> None:
    import time

    started = time.process_time()
    for count in (90, 20_000):
        detect.of_keys([unit * count + end, f"base{unit * (count // 2)}"] * 20, tmp_path)
    assert time.process_time() - started < 1


def test_a_pickle_of_very_many_steps_is_cut(tmp_path: Path) -> None:
    import time

    started = time.process_time()
    assert pickled(b"\x80\x02" + b"N0" * 5_000_000) == ()
    assert time.process_time() - started < 10
