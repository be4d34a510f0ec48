"""Readers of adapters: adaptr's own files, PEFT's folders, pickles."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch

import checkpoints
from adaptr import api, foreign
from adaptr.adapter import Adapter
from adaptr.artifacts.history import log as history
from adaptr.artifacts.inspect import inspect
from adaptr.errors import AdaptrError
from adaptr.foreign import detect, saving
from adaptr.foreign.peft import told, types
from adaptr.foreign.seen import is_adaptr
from adaptr.registry import strict
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_header, is_json

VECTORS = Path(__file__).resolve().parents[3] / "registry_spec/vectors/valid"
CARD = b"---\nlicense: mit\nbase_model: acme/base\n---\n# A card\n"
#: Targets and configuration of what is no adapter of the query without any.
MADE: dict[str, dict[str, Any]] = {
    "prompt": {"targets": None},
    "prefix": {"targets": None, "position_offset": "shift"},
    "trainable-tokens": {"targets": None, "tokens": [3, 5]},
    "alora": {"invocation": [3]},
    "llama-adapter": {"targets": None, "gate": "layer", "activation": "none"},
    "p-tuning": {"targets": None},
    "p-tuning-v2": {"targets": None, "position_offset": "shift"},
    "mpt": {"targets": None},
    "cpt": {"targets": None, "ids": [3, 4]},
    "cartridge": {"targets": None},
    "vblora": {"targets": "attn.q", "v": 8},
}
#: What this base has no biases for, or needs all of its values.
UNWRITTEN = ("beft", "layernorm", "ln-tuning")
#: A LoRA beside trained tokens, as PEFT's `trainable_token_indices` has it.
STACKED = ("lora", "trainable-tokens")


def _adapters(folder: Path) -> dict[str, Reader]:
    valid = [path.read_bytes() for path in sorted(VECTORS.glob("*"))]
    file = folder / "x.safetensors"

    def example(random: Random) -> Example:
        raw = mutations.safetensors(random, random.choice(valid), "adaptr")
        file.write_bytes(raw)

        def read() -> None:
            with contextlib.suppress(AdaptrError):
                strict.header("x", file)
            is_adaptr(file)
            inspect(file)
            history(file)

        return is_header(raw), read

    return {"adapter": example}


def _peft(folder: Path) -> dict[str, Reader]:
    """Folders of every type that is read, alone and for their base, header and values."""
    place, base = folder / "peft", checkpoints.saved("llama", folder / "base3")
    place.mkdir()
    valid = [
        _written(method, base, folder / "valid" / method)
        for method in (method for method in types.methods() if method not in UNWRITTEN)
    ]

    def example(random: Random) -> Example:
        files = dict(random.choice(valid))
        said, raw = files["adapter_config.json"], files["adapter_model.safetensors"]
        if random.random() < 0.6:
            said = mutations.text(random, json.loads(said))
        if random.random() < 0.4:
            raw = mutations.safetensors(random, raw, saving.ABOUT)
        (place / "adapter_config.json").write_bytes(said)
        (place / "adapter_model.safetensors").write_bytes(raw)
        (place / told.CARD).write_bytes(mutations.flipped(random, CARD))
        known = random.choice((None, base))

        def read() -> None:
            inspect(place, base=known)
            dict(foreign.get("peft").read(place, known).tensors)
            history(place)

        return is_json(said) and is_header(raw), read

    return {"peft": example}


def _written(method: str, base: Path, out: Path) -> dict[str, bytes]:
    """The files of a PEFT folder of this method."""
    adapter = _made(method, base)
    if method in {"frod", "psoft"}:  # as if the base had given it the frame
        known = {"peft": dict(types.of_method(method).sealed(adapter))}
        adapter = adapter.replace(foreign=known)
    foreign.get("peft").write(adapter.replace(name="style", tags=("a",)), out, False, False)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def _made(method: str, base: Path) -> Adapter:
    if method == "stack":
        parts = {name: _made(name, base) for name in STACKED}
        return api.create(checkpoints.model_of(base).float(), method, children=parts)
    return checkpoints.randomised(base, method, **MADE.get(method, {"targets": "attn.q"}))


def _pickles(folder: Path) -> dict[str, Reader]:
    import torch

    base = checkpoints.saved("llama", folder / "base4")
    files = _written("lora", base, folder / "of-pickles")
    tensors = safetensors.torch.load(files["adapter_model.safetensors"])
    valid = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
        valid.append(file.getvalue())
    place = folder / "pickled"
    place.mkdir()
    (place / "adapter_config.json").write_bytes(files["adapter_config.json"])

    def example(random: Random) -> Example:
        raw = mutations.flipped(random, random.choice(valid))
        (place / "adapter_model.bin").write_bytes(raw)
        (folder / "x.pt").write_bytes(raw)
        alone = random.random() < 0.5

        def read() -> None:
            if alone:
                raise detect.refusal(folder / "x.pt")
            inspect(place)

        return _is_archive(raw), read

    return {"pickle": example}


def _is_archive(raw: bytes) -> bool:
    """Whether it is a zip with its directory, or starts as a pickle."""
    with contextlib.suppress(Exception):
        return raw[:1] == b"\x80" or bool(zipfile.ZipFile(io.BytesIO(raw)).namelist())
    return False


READERS = (_adapters, _peft, _pickles)
