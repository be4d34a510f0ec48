"""Readers of llama.cpp's files: bytes that are others, and tensors and values of other types, sizes and names."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import torch

import tiny
from adaptr import foreign
from adaptr.artifacts.inspect import inspect
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole
from adaptr.checkpoint.skeleton import described
from adaptr.errors import AdaptrError
from adaptr.format import gguf
from adaptr.merging.merge import merge
from fuzz import mutations
from fuzz.readers.examples import Example, Reader
from gguf_files import base, pair, quantised, written
from packed_bases import lora

NAMES = ("blk.0.ffn_up.weight", "blk.1.attn_q.weight", "token_embd.weight", "output.weight", "blk.x.ffn_up.weight", "x")
KEYS = ("adapter.lora.alpha", "general.type", "general.architecture", "general.tags", "adaptr.about",
        "qwen2.attention.head_count", "general.base_model.0.repo_url", "general.alignment")  # fmt: skip
VALUES: tuple[Any, ...] = (0, 1, 2**32 - 1, 0.0, -1.5, 1e38, "", "{}", "llama", "qwen2", "\x1b[31m", ["a"], [1, 2])


def _changed(random: Random, out: Path) -> Path:
    """A file with another value, or tensors of other names and shapes."""
    tensors = dict(pair(random.choice(NAMES)))
    if random.random() < 0.4:
        key = random.choice(list(tensors))
        tensors[key] = torch.ones([random.choice((0, 1, 2, 8)) for _ in range(random.randrange(1, 4))])
    said = {random.choice(KEYS): random.choice(VALUES)} if random.random() < 0.6 else {}
    return written(out, tensors, said, random.choice(("qwen2", "llama", "gpt2", "bloom", "falcon")))


def _ggufs(folder: Path) -> dict[str, Reader]:
    """Alone and for a base; the same bytes also as a base."""
    file, model = folder / "x.gguf", tiny.MAKERS["qwen2"]()
    valid = [
        written(folder / "plain.gguf", pair() | pair("blk.0.attn_q.weight"), {"general.tags": ["a"]}).read_bytes(),
        quantised(folder / "small.gguf", pair(out=32, into=32, r=32), "Q8_0").read_bytes(),
    ]

    def example(random: Random) -> Example:
        if random.random() < 0.5:
            file.write_bytes(mutations.flipped(random, random.choice(valid)))
        else:
            _changed(random, file)
        known = random.choice((None, model))

        def read() -> None:
            described(file) if random.random() < 0.1 else inspect(file)
            dict(foreign.get("gguf").read(file, known).tensors)

        return _is_header(file.read_bytes()), read

    return {"gguf": example}


def _bases(folder: Path) -> dict[str, Reader]:
    """Bases: now and then opened, which builds their model, all their tensors read, and an adapter merged into them."""
    file, out = folder / "base.gguf", folder / "merged.gguf"
    kinds = (("F16", "llama"), ("Q8_0", "llama"), ("Q4_0", "gemma2"))
    made = [base(folder / f"{kind}-{arch}.gguf", kind, arch) for kind, arch in kinds]
    adapter, valid = lora(open_checkpoint(made[0]), 0.5), [one.read_bytes() for one in made]

    def example(random: Random) -> Example:
        file.write_bytes(mutations.flipped(random, random.choice(valid)))
        deep = random.random() < 0.05

        def read() -> None:
            if deep:
                for stored in open_checkpoint(file).tensors.values():
                    whole(stored)
                merge(file, adapter, out, force=True)

        return _is_header(file.read_bytes()), read

    return {"gguf-base": example}


def _is_header(raw: bytes) -> bool:
    try:
        gguf.read(io.BytesIO(raw), len(raw))
    except AdaptrError:
        return False
    return True


READERS = (_ggufs, _bases)
