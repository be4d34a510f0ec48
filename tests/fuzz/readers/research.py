"""Readers of what research code and its trainers save: one of their formats at a time."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np
import torch

from adaptr import foreign
from adaptr_formats.t5x import packed
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_archive, is_json

#: A file or folder of a format, damaged or not, and whether it is well formed.
Made = Callable[[Random, Path], tuple[Path, bool]]


def _packed_prompt(random: Random, folder: Path) -> tuple[Path, bool]:
    """Flax's msgpack, any of whose bytes, lengths among them, may be another."""
    raw = packed.written(torch.ones(2, 3, dtype=random.choice((torch.float32, torch.bfloat16, torch.int32))))
    if random.random() < 0.3:
        raw = b"\x82\xa1v\x03\xa9optimizer" + raw[: random.choice((len(raw), 20))]
    raw = mutations.flipped(random, raw) if random.random() < 0.7 else raw
    (folder / "x.msgpack").write_bytes(raw)
    return folder / "x.msgpack", packed.is_map(raw)


def _chunked_prompt(random: Random, folder: Path) -> tuple[Path, bool]:
    said = mutations.text(random, _ZARR) if random.random() < 0.6 else json.dumps(_ZARR).encode()
    (folder / ".zarray").write_bytes(said)
    chunk = gzip.compress(bytes(16))
    for name in ("0.0", "0.1"):
        (folder / name).write_bytes(mutations.flipped(random, chunk) if random.random() < 0.3 else chunk)
    return folder, is_json(said)


def _t5x(random: Random, folder: Path) -> tuple[Path, bool]:
    shape = [random.choice((0, 1, 2, 3, 9)) for _ in range(random.choice((2, 2, 2, 1, 3)))]
    value = np.ones(shape, random.choice(("<f4", ">f2", "<f8", "<i4", "?", "<c8", "U3")))
    np.save(file := io.BytesIO(), value)
    raw = mutations.flipped(random, file.getvalue()) if random.random() < 0.6 else file.getvalue()
    (folder / "x.npy").write_bytes(raw)
    return folder / "x.npy", raw.startswith(b"\x93NUMPY\x01\x00")


def _pickled(random: Random, tensors: Mapping[str, object]) -> bytes:
    torch.save(tensors, file := io.BytesIO())
    return mutations.flipped(random, file.getvalue()) if random.random() < 0.2 else file.getvalue()


def _llama_adapter(random: Random, folder: Path) -> tuple[Path, bool]:
    tensors = random.choice((_PROMPTS, _SHIFTS))
    ends = ("gate", "weight", "wq_bias", "wo_scale", "", "\n", "x" * 900)
    tensors = mutations.tensors(random, tensors, ends, ("layers.9.attention", "norm", "visual_query", ".."), last=True)
    raw = _pickled(random, {"model": tensors, "config": {}} if random.random() < 0.3 else tensors)
    (folder / "x.pth").write_bytes(raw)
    return folder / "x.pth", is_archive(raw)


def _nemo(random: Random, folder: Path) -> tuple[Path, bool]:
    """A tar whose members, names and bytes may be any."""
    tensors = (
        _FUSED if random.random() < 0.4 else mutations.tensors(random, _FUSED, _ENDS, ("layers.9.mlp", ".."), True)
    )
    said = mutations.yaml(random, _SAID) if random.random() < 0.4 else _SAID.encode()
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as tar:
        for name, raw in (("model_config.yaml", said), ("./model_weights.ckpt", _pickled(random, tensors))):
            name = random.choice((name, name, name, name, "../x", "/x", "mp_rank_01/model_weights.ckpt", "a" * 300))
            info = tarfile.TarInfo(name)
            info.size, info.type = len(raw), random.choice((b"0",) * 9 + (b"2",))
            tar.addfile(info, io.BytesIO(raw))
    raw = mutations.flipped(random, file.getvalue()) if random.random() < 0.2 else file.getvalue()
    (folder / "x.nemo").write_bytes(raw)
    return folder / "x.nemo", raw[257:262] == b"ustar"


def _reft(random: Random, folder: Path) -> tuple[Path, bool]:
    ends = ("weight", "bias", "rotate_layer", "proj_layer.bias", "", "x" * 900)
    tensors = _LOREFT if random.random() < 0.4 else mutations.tensors(random, _LOREFT, ends, ("a",), last=True)
    (folder / f"intkey_{_KEY}.bin").write_bytes(_pickled(random, tensors))
    said = mutations.text(random, _CONFIG) if random.random() < 0.6 else json.dumps(_CONFIG).encode()
    (folder / "config.json").write_bytes(said)
    return folder, is_json(said)


def _opendelta(random: Random, folder: Path) -> tuple[Path, bool]:
    kind = random.choice(("lora", "adapter", "soft_prompt", "bitfit", "low_rank_adapter", *_BESIDE))
    ends = ("lora_A", "lora_B", "soft_embeds", "bias", "W_left", "W", "", "x" * 900)
    own = _BESIDE.get(kind, _DELTA)
    tensors = mutations.tensors(random, own, ends, ("q.lora", "soft_prompt_layer", "q", ".."), last=True)
    (folder / "pytorch_model.bin").write_bytes(_pickled(random, tensors))
    document = {"delta_type": kind, "lora_alpha": 4, "opendelta_version": "0.3.2", "modified_modules": ["q", "q"]}
    said = mutations.text(random, document) if random.random() < 0.5 else json.dumps(document).encode()
    (folder / "config.json").write_bytes(said)
    return folder, is_json(said)


_ENDS = ("linear_in.weight", "linear_out.weight", "weight", "", "\n", "x" * 900)
_AT = "model.decoder.layers.0.self_attention.adapter_layer.lora_kqv_adapter"
_FUSED = {f"{_AT}.linear_in.weight": torch.ones(2, 4), f"{_AT}.linear_out.weight": torch.ones(8, 2)}
_SAID = "hidden_size: 4\nnum_attention_heads: 2\nnum_query_groups: 1\nkv_channels: 2\nactivation: swiglu\nalpha: 4"
_LOREFT = {"weight": torch.ones(2, 4), "bias": torch.ones(2), "rotate_layer": torch.ones(4, 2)}
_KEY = "layer_0_comp_block_output_unit_pos_nunit_1#0"
_CONFIG = {
    "mode": "parallel",
    "representations": [[0, "block_output", "pos", 1, 2]],
    "intervention_types": ["<class 'pyreft.interventions.LoreftIntervention'>"],
    "adaptr_positions": "f2+l1",
    "adaptr_blocks": "model.layers",
}
_DELTA = {"q.lora.lora_A": torch.ones(2, 4), "q.lora.lora_B": torch.ones(4, 2), "head.weight": torch.ones(2, 4)}
_BESIDE: Mapping[str, Mapping[str, torch.Tensor]] = {
    "compacter": {
        f"q.compactor.{end}_sampler.{name}": torch.ones(shape)
        for end, (into, out) in {"down": (4, 2), "up": (2, 4)}.items()
        for name, shape in {"phm_rule": (2, 2, 2), "W_left": (2, into // 2, 1), "W_right": (2, 1, out // 2)}.items()
    },
    "parallel_adapter": {
        f"q.parallel_adapter.modulelist.{name}": torch.ones(shape)
        for name, shape in {"down_proj.weight": (2, 4), "down_proj.bias": (2,), "up_proj.weight": (4, 2),
                            "up_proj.bias": (4,)}.items()
    },
}  # fmt: skip
_ZARR = {
    "zarr_format": 2, "shape": [2, 3], "chunks": [2, 2], "dtype": "<f4", "order": "C", "filters": None,
    "compressor": {"id": "gzip", "level": 1}, "fill_value": None, "dimension_separator": ".",
}  # fmt: skip
_PROMPTS = {
    "adapter_query.weight": torch.ones(4, 4),
    **{f"layers.{i}.attention.gate": torch.ones(1, 2, 1, 1) for i in (1, 2)},
}
_SHIFTS = {"layers.0.attention.wv_bias": torch.ones(4), "layers.0.feed_forward.w2_scale": torch.ones(6)}
MADE: dict[str, Made] = {
    "t5x": _t5x, "t5x-packed": _packed_prompt, "t5x-chunked": _chunked_prompt, "llama-adapter": _llama_adapter,
    "nemo": _nemo, "pyreft": _reft, "opendelta": _opendelta,
}  # fmt: skip


def _research(folder: Path) -> dict[str, Reader]:
    """Files of each, alone."""
    for name in MADE:
        (folder / f"research-{name}").mkdir()

    def example(random: Random) -> Example:
        name = random.choice(list(MADE))
        path, formed = MADE[name](random, folder / f"research-{name}")
        form = "t5x" if name.startswith("t5x") else name
        return formed, lambda: dict(foreign.get(form).read(path).tensors)

    return {"research": example}


READERS = (_research,)
