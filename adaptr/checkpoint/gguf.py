"""A base in a GGUF file, llama.cpp's, as transformers has it: its names, its order of rows, its norms.

Tensors of floats that lie as the model has them are read as they are. All others, blocks of fewer bits among them, are
decoded row by row (`Laid`), in fp32 where they are blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint.built import imagined
from adaptr.checkpoint.from_gguf import configuration
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Shard, Stored
from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.format.gguf import GgufHeader, open_header
from adaptr.format.header import Entry, Header
from adaptr.format.io import TORCH_NAMES
from adaptr.llama_cpp import names, quantised, rows
from adaptr.packings import Codec, Parts
from adaptr.untrusted import opened

if TYPE_CHECKING:
    from torch import Tensor

#: Architectures whose norms llama.cpp keeps with the 1 that their models add.
ADDED = frozenset({"gemma", "gemma2", "gemma3"})
#: Those whose matrices are turned in transformers.
TURNED = {"gpt2": ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}
#: What llama.cpp computes beforehand, and models don't keep.
COMPUTED = ("rope_freqs", "rope_factors_long", "rope_factors_short")


@dataclass(frozen=True)
class Laid(Codec):
    """A tensor as llama.cpp lays it out. `kind`: its ggml type; `order`: of its rows, see `rows`; `theirs`: its name;
    `offset`: what is added to each element; `turned`: whether it is the transpose.
    """

    kind: str
    theirs: str
    order: str = ""
    heads: rows.Heads = rows.UNKNOWN
    offset: float = 0.0
    turned: bool = False

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        return {}

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        if self.turned:
            return self._floats(parts["weight"].all()).T[start:stop].contiguous()
        if not self.order:
            return self._floats(parts["weight"].rows(start, stop))
        at = self._from[start:stop]
        low, high = int(at.min()), int(at.max()) + 1
        return self._floats(parts["weight"].rows(low, high)[at - low])

    @cached_property
    def _from(self) -> Tensor:
        """Which of the stored rows each of the model's is."""
        return rows.order(self.order, self.theirs, self.shape[0], self.heads).argsort()

    def _floats(self, stored: Tensor) -> Tensor:
        """Stored rows, as bytes where they are blocks."""
        if self.kind not in TORCH_NAMES:
            columns = self.shape[0] if self.turned else self.shape[-1]
            stored = quantised.floats(self.kind, (len(stored), *self.shape[1:-1], columns), stored.contiguous())
        return stored + self.offset if self.offset else stored


def opened_gguf(path: Path) -> tuple[Shard, Mapping[str, Stored], Mapping[str, Stored], Mapping[str, Any]]:
    """(the file, its tensors as the model has them, as they lie, the configuration).

    Raises a `HeaderError`, `CheckpointError` for what is no whole base, `Unsupported` for an architecture of which the
    names and the order of rows are not known, `MissingExtra` without gguf or transformers.
    """
    header = open_header(path)
    if header.metadata.get("general.type", "model") != "model":
        raise CheckpointError(f"`{path}` is no model, as its header says", want="a base checkpoint")
    if header.metadata.get("split.count") not in {None, 0, 1}:
        raise Unsupported(f"`{path}` is one of several files", hint="join them with `llama-gguf-split --merge`")
    config = configuration(path)
    known = names.of(header.text("general.architecture"))
    entries = {name: _as_rows(entry) for name, entry in header.entries.items()}
    with opened(path) as file:
        shard = Shard(path, file.read(header.data), Header(entries, {}, header.data), path.name)
    lying = {name: Stored(name, shard, entry) for name, entry in entries.items()}
    called = _called(header, config)
    found = {
        called[name]: _placed(header, known, called[name], stored) for name, stored in lying.items() if called[name]
    }
    return shard, found, lying, config


def _as_rows(entry: Entry) -> Entry:
    """Blocks as rows of bytes."""
    if entry.dtype in TORCH_NAMES:
        return entry
    *outer, _ = entry.shape or (1, 1)
    count = 1
    for size in outer:
        count *= size
    return Entry("U8", (*outer, entry.nbytes // max(count, 1)), entry.start, entry.stop)


def _called(header: GgufHeader, config: Mapping[str, Any]) -> dict[str, str]:
    """llama.cpp's names to transformers', "" for what its models don't keep. Raises `Unsupported` for others."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(header.text("general.architecture"), TensorProcessor)(config=dict(config))
    known: dict[str, str] = get_gguf_hf_weights_map(imagined(config), processor)
    known |= dict.fromkeys((f"{name}.weight" for name in COMPUTED), "")
    strange = next((name for name in header.entries if name not in known), None)
    if strange is not None:
        raise Unsupported(
            f"`{shown(strange)}` is no tensor of `{config['model_type']}` in transformers",
            hint="save the model as safetensors, and use that",
        )
    return {name: known[name] for name in header.entries}


def _placed(header: GgufHeader, known: names.Architecture, name: str, stored: Stored) -> Stored:
    """One tensor as the model has it."""
    kind, shape = header.entries[stored.name].dtype, header.entries[stored.name].shape
    arch = header.text("general.architecture")
    theirs = stored.name.rpartition(".")[0]
    turned = theirs.rpartition(".")[2] in TURNED.get(arch, ()) and len(shape) == 2
    order = known.rows if rows.moved(known.rows, theirs) else ""
    offset = -1.0 if arch in ADDED and stored.name.endswith("norm.weight") else 0.0
    if kind in TORCH_NAMES and not (turned or order or offset):
        return Stored(name, stored.shard, stored.entry)
    shape, dtype = (shape[::-1] if turned else shape), (kind if kind in TORCH_NAMES else "F32")
    codec = Laid(f"gguf-{kind.lower()}", shape, dtype, kind, theirs, order, _heads(header, arch), offset, turned)
    return Packed(name, stored.shard, codec.entry, {"weight": stored}, codec, dtype)


def _heads(header: GgufHeader, arch: str) -> rows.Heads:
    queries = header.count(f"{arch}.attention.head_count")
    return rows.Heads(queries, header.count(f"{arch}.attention.head_count_kv") or queries)
