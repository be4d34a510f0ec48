"""Readers of language models' adapters from other tools: names, shapes, values, configurations that are others."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

import checkpoints
from adaptr import foreign
from adaptr.artifacts.inspect import inspect
from adaptr.foreign import NOTHING, Supplied, saving
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_archive, is_header, is_json

PATH = "model.layers.0.self_attn.q_proj"
#: Ends of names, of which some belong together.
ENDS = ("lora_a", "lora_b", "m", "weight", "bias", "lora_A", "lora_a.weight", "", "\n", "a.b.c", "x" * 900)
WORDS = (
    "model.embed_tokens",
    "lm_head",
    "model.layers.9.x",
    "..",
    "model.layers.00.self_attn.q_proj",
    "é",
    "layers.0.",
)
MASKS = (None, None, (True, False, True), (False, True, False), (True,))
SUPPLIED = (NOTHING, NOTHING, Supplied(scale=2.0), Supplied(alpha=1e300), Supplied(scale=1e308))


def packed(tensors: dict[str, Tensor], compressed: bool) -> bytes:
    """An npz archive, as MLX wrote."""
    file = io.BytesIO()
    arrays = {key: value.float().numpy() for key, value in tensors.items()}
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def _mlx(folder: Path) -> dict[str, Reader]:
    """Folders of LoRA, DoRA and whole layers, alone and for their base, and archives with and without a scale."""
    base = checkpoints.saved("llama", folder / "base-mlx")
    place = folder / "mlx"
    place.mkdir()
    out, into = safetensors.torch.load_file(base / "model.safetensors")[f"{PATH}.weight"].shape
    factors = {f"{PATH}.lora_a": torch.ones(into, 2), f"{PATH}.lora_b": torch.ones(2, out)}
    valid = {
        "lora": factors,
        "dora": factors | {f"{PATH}.m": torch.ones(out)},
        "full": {f"{PATH}.weight": torch.ones(out, into), "model.layers.0.input_layernorm.weight": torch.ones(into)},
    }

    def example(random: Random) -> Example:
        for old in place.iterdir():
            old.unlink()
        method = random.choice(list(valid))
        tensors = (
            mutations.tensors(random, valid[method], ENDS, WORDS, last=True) if random.random() < 0.6 else valid[method]
        )
        parameters = {"rank": 2, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
        config = {"fine_tune_type": method, "num_layers": 2, "model": "a/b", "lora_parameters": parameters}
        said = mutations.text(random, config) if random.random() < 0.5 else json.dumps(config).encode()
        archived = random.random() < 0.3
        file = place / ("adapters.npz" if archived else "adapters.safetensors")
        raw = packed(tensors, random.random() < 0.5) if archived else safetensors.torch.save(tensors)
        if random.random() < 0.3:
            raw = mutations.flipped(random, raw) if archived else mutations.safetensors(random, raw, saving.ABOUT)
        file.write_bytes(raw)
        if not archived or random.random() < 0.5:
            (place / "adapter_config.json").write_bytes(said)
        known, supplied = random.choice((None, base)), random.choice(SUPPLIED)

        def read() -> None:
            dict(foreign.get("mlx").read(place, known, supplied).tensors)
            inspect(place, base=known)

        return is_json(said) and (is_archive(raw) if archived else is_header(raw)), read

    return {"mlx": example}


def _written(random: Random, file: Path, tensors: dict[str, Tensor]) -> tuple[Path, bool]:
    """A pickle or a safetensors file, whole or not, and whether it is well formed."""
    pickled = random.random() < 0.5
    raw = _pickled(tensors) if pickled else safetensors.torch.save(tensors)
    if random.random() < 0.3:
        raw = mutations.flipped(random, raw) if pickled else mutations.safetensors(random, raw, saving.ABOUT)
    file = file.with_suffix(".pt" if pickled else ".safetensors")
    file.write_bytes(raw)
    return file, is_archive(raw) if pickled else is_header(raw)


def _pickled(tensors: Mapping[str, object]) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def _loralib(folder: Path) -> dict[str, Reader]:
    """Pickles and safetensors, alone and for a base that has the modules, with and without what is to be said."""
    base = nn.ModuleDict({"q": nn.Linear(4, 6), "c_attn": nn.Linear(4, 9), "emb": nn.Embedding(4, 3)})
    plain = {"q.lora_A": torch.ones(2, 4), "q.lora_B": torch.ones(6, 2), "q.bias": torch.ones(6)}
    fused = {"c_attn.lora_A": torch.ones(4, 4), "c_attn.lora_B": torch.ones(6, 2)}
    table = {"emb.lora_A": torch.ones(2, 4), "emb.lora_B": torch.ones(3, 2)}
    ends = ("lora_A", "lora_B", "lora_E", "bias", "weight", "", "\n", "x" * 900)

    def example(random: Random) -> Example:
        valid = random.choice((plain, fused, table, plain | table))
        tensors = mutations.tensors(random, valid, ends, ("q", "c_attn", "emb", "..", "x.y"), last=True)
        file, formed = _written(random, folder / "x-loralib", tensors)
        known, mask = random.choice((None, base)), random.choice(MASKS)
        supplied = dataclasses.replace(random.choice(SUPPLIED), enable_lora=mask)

        def read() -> None:
            dict(foreign.get("loralib").read(file, known, supplied).tensors)

        return formed, read

    return {"loralib": example}


def _torchtune(folder: Path) -> dict[str, Reader]:
    """Pickles and safetensors, alone and for their base, of which rows of queries go by its heads."""
    base = checkpoints.saved("llama", folder / "base-torchtune")
    out, into = safetensors.torch.load_file(base / "model.safetensors")[f"{PATH}.weight"].shape
    name = "layers.0.attn.q_proj"
    valid = {f"{name}.lora_a.weight": torch.ones(2, into), f"{name}.lora_b.weight": torch.ones(out, 2)}
    ends = ("lora_a.weight", "lora_b.weight", "magnitude", "weight", "", "\n", "x" * 900)
    modules = (
        "layers.0.mlp.w1",
        "output",
        "layers.00.attn.q_proj",
        "layers.9.attn.k_proj",
        "..",
        "layers.x.attn.q_proj",
    )

    def example(random: Random) -> Example:
        tensors = valid | random.choice(({}, {f"{name}.magnitude": torch.ones(out)}))
        tensors = mutations.tensors(random, tensors, ends, modules, last=True)
        file, formed = _written(random, folder / "x-torchtune", tensors)
        known, supplied = random.choice((None, base)), random.choice(SUPPLIED)

        def read() -> None:
            dict(foreign.get("torchtune").read(file, known, supplied).tensors)

        return formed, read

    return {"torchtune": example}


def _litgpt(folder: Path) -> dict[str, Reader]:
    """Pickles within which the tensors are, with YAML beside them that may be damaged or not there."""
    name, place = "transformer.h.0.attn.qkv", folder / "litgpt"
    place.mkdir()
    valid = {f"{name}.lora_A": torch.ones(4, 4), f"{name}.lora_B": torch.ones(9, 2)}
    ends = ("lora_A", "lora_B", "lora_C", "weight", "", "\n", "x" * 900)
    modules = ("transformer.h.0.mlp.fc_1", "lm_head", "transformer.h.00.attn.qkv", "transformer.h.9.attn.attn", "..")
    said = {
        "hyperparameters.yaml": {"lora_alpha": 8, "lora_query": True, "lora_value": True, "lora_dropout": 0.0},
        "model_config.yaml": {"n_head": 2, "head_size": 3, "n_query_groups": 1, "mlp_class_name": "LLaMAMLP"},
    }

    def example(random: Random) -> Example:
        tensors = mutations.tensors(random, valid, ends, modules, last=True) if random.random() < 0.5 else valid
        raw = _pickled({"model": tensors} if random.random() < 0.9 else tensors)
        raw = mutations.flipped(random, raw) if random.random() < 0.2 else raw
        (place / "lit_model.pth.lora").write_bytes(raw)
        for file, document in said.items():
            text = mutations.text(random, document) if random.random() < 0.4 else json.dumps(document).encode()
            (place / file).write_bytes(text if random.random() < 0.9 else b"- 1")
        supplied = dataclasses.replace(random.choice(SUPPLIED), enable_lora=random.choice(MASKS))

        def read() -> None:
            dict(foreign.get("litgpt").read(place, None, supplied).tensors)

        return is_archive(raw), read

    return {"litgpt": example}


#: Configurations of AdapterHub with names and shapes of what they are of: two of them on a Llama of width 4.
_UNION = [
    {"architecture": "lora", "r": 2, "alpha": 4, "attn_matrices": ["q"], "composition_mode": "add", "dropout": 0.0},
    {"mh_adapter": False, "output_adapter": True, "non_linearity": "relu", "original_ln_before": True, "scaling": 1.0},
    {"architecture": "prefix_tuning", "flat": True, "prefix_length": 2, "leave_out": []},
]
_FUSION = {"query": True, "key": True, "value": True, "query_before_ln": False, "regularization": True}
_HUB = {
    **{f"{PATH}.loras.x.{name}": shape for name, shape in (("lora_A", (2, 4)), ("lora_B", (4, 2)))},
    **{
        f"model.layers.0.output_adapters.adapters.x.{name}": shape
        for name, shape in (
            ("adapter_down.0.weight", (2, 4)), ("adapter_down.0.bias", (2,)), ("adapter_up.weight", (4, 2)),
            ("adapter_up.bias", (4,)),
        )
    },
    "model.layers.0.self_attn.prefix_tuning.pool.prefix_tunings.x.self_prefix.control_trans": (64,),
}  # fmt: skip


def _adapterhub(folder: Path) -> dict[str, Reader]:
    """Folders of a union's methods, alone and for their base, whose configuration may be damaged or another's."""
    base, place = checkpoints.saved("llama", folder / "base-adapterhub"), folder / "adapterhub"
    arranged = _setups(folder)
    place.mkdir()
    ends = ("lora_A", "lora_B", "vera_D", "vera_B", "m.weight", "scaling", "adapter_up.bias", "", "\n", "x" * 900)
    modules = (f"{PATH}.loras.x", "x.adapters.y", "model.shared_parameters.x", "..", "prefix_tuning.prefix_gates.x")

    def example(random: Random) -> Example:
        parts = random.sample(_UNION, random.randrange(1, 4))
        own = parts[0] if len(parts) == 1 else {"architecture": "union", "configs": parts}
        document = {"config": own, "model_class": "LlamaAdapterModel", "model_type": "llama", "name": "x"}
        valid = {key: torch.ones(shape) for key, shape in _HUB.items()}
        tensors = mutations.tensors(random, valid, ends, modules, last=True) if random.random() < 0.7 else valid
        raw = safetensors.torch.save(tensors) if random.random() < 0.5 else _pickled(tensors)
        raw = mutations.flipped(random, raw) if random.random() < 0.2 else raw
        (place / "pytorch_adapter.bin").write_bytes(raw)
        text = mutations.text(random, document) if random.random() < 0.4 else json.dumps(document).encode()
        (place / "adapter_config.json").write_bytes(text)
        known = random.choice((None, base))

        def read() -> None:
            dict(foreign.get("adapterhub").read(place, known).tensors)

        return is_json(text), read

    return {"adapterhub": lambda random: (arranged if random.random() < 0.3 else example)(random)}


def _setups(folder: Path) -> Reader:
    """Set-ups of two bottlenecks, what is over them, and what says so."""
    place = folder / "adapterhub-setup"
    at, said = "model.layers.0.output_adapters", {"model_class": "x", "model_type": "llama"}
    for name in ("a", "b", "a,b"):
        (place / name).mkdir(parents=True)
    for name in "ab":
        shapes = {key: shape for key, shape in _HUB.items() if ".adapters." in key}
        own = {key.replace(".x.", f".{name}."): torch.ones(shape) for key, shape in shapes.items()}
        (place / name / "adapter.safetensors").write_bytes(safetensors.torch.save(own))
        (place / name / "adapter_config.json").write_text(json.dumps({**said, "config": _UNION[1], "name": name}))
    slots = {"query.weight": (4, 4), "query.bias": (4,), "key.weight": (4, 4), "key.bias": (4,), "value.weight": (4, 4)}
    valid = {f"{at}.adapter_fusion_layer.a,b.{slot}": torch.ones(size) for slot, size in slots.items()}

    def example(random: Random) -> Example:
        single = [{"type": "single", "children": [name]} for name in "ab"]
        kind, sizes = random.choice(("Fuse", "Stack", "Parallel", "BatchSplit", "Split")), [2, 1]
        block = {"type": kind, "children": single, "kwargs": {"batch_sizes": sizes, "splits": sizes}}
        fusion = {**said, "adapter_names": ["a", "b"], "config": _FUSION}
        texts = [
            mutations.text(random, one) if random.random() < 0.4 else json.dumps(one).encode()
            for one in ({"adapter_setup": block}, fusion)
        ]
        tensors = mutations.tensors(random, valid, (*slots, "x"), (at, "x")) if random.random() < 0.5 else valid
        (place / "adapter_setup.json").write_bytes(texts[0])
        (place / "a,b" / "adapter_fusion_config.json").write_bytes(texts[1])
        (place / "a,b" / "model_adapter_fusion.safetensors").write_bytes(safetensors.torch.save(tensors))
        where, form, arranged = random.choice((place, place / "a,b")), foreign.get("adapterhub"), random.random() < 0.4

        def read() -> None:
            list(form.block(where).leaves()) if arranged else dict(form.read(where, None).tensors)

        return all(map(is_json, texts)), read

    return example


READERS = (_mlx, _loralib, _torchtune, _litgpt, _adapterhub)
