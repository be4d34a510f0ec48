"""A base in a GGUF file, llama.cpp's, as transformers has it: its names, its order of rows, its norms.

Tensors of floats that lie as the model has them are read as they are. All others, blocks of fewer bits among them, are
decoded row by row (`Laid`), in fp32 where they are blocks. All go by the model's names, as they lie too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptr.checkpoint.built import imagined
from adaptr.checkpoint.from_gguf import configuration
from adaptr.checkpoint.laid import Laid, scheme
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Shard, Stored
from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.format.gguf import GgufHeader, open_header
from adaptr.format.header import Entry, Header
from adaptr.format.io import TORCH_NAMES
from adaptr.llama_cpp import names, rows
from adaptr.untrusted import opened

#: Architectures whose norms llama.cpp keeps with the 1 that their models add.
ADDED = frozenset({"gemma", "gemma2", "gemma3"})
#: Those whose matrices are turned in transformers.
TURNED = {"gpt2": ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}
#: What llama.cpp computes beforehand, and models don't keep.
COMPUTED = ("rope_freqs", "rope_factors_long", "rope_factors_short")


def opened_gguf(path: Path) -> tuple[Shard, Mapping[str, Stored], Mapping[str, Stored], Mapping[str, Any]]:
    """(the file, its tensors as the model has them, as they lie, the configuration). What models don't keep goes by
    llama.cpp's names.

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
    called = ours(header, config)
    entries = as_lying(header, called)
    with opened(path) as file:
        shard = Shard(path, file.read(header.data), Header(entries, {}, header.data), path.name)
    lying = {name: Stored(name, shard, entry) for name, entry in entries.items()}
    found = {name: _placed(header, known, theirs, lying[name]) for theirs, name in called.items() if name != theirs}
    return shard, found, lying, config


def as_lying(header: GgufHeader, called: Mapping[str, str]) -> dict[str, Entry]:
    """The tensors as they lie, by our names of them."""
    return {called[theirs]: _as_rows(entry) for theirs, entry in header.entries.items()}


def _as_rows(entry: Entry) -> Entry:
    """Blocks as rows of bytes."""
    if entry.dtype in TORCH_NAMES:
        return entry
    *outer, _ = entry.shape or (1, 1)
    count = 1
    for size in outer:
        count *= size
    return Entry("U8", (*outer, entry.nbytes // max(count, 1)), entry.start, entry.stop)


def ours(header: GgufHeader, config: Mapping[str, Any]) -> dict[str, str]:
    """llama.cpp's names to transformers', or to themselves for what its models don't keep. Raises `Unsupported` for
    others, and for two of one name.
    """
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(header.text("general.architecture"), TensorProcessor)(config=dict(config))
    known: dict[str, str] = get_gguf_hf_weights_map(imagined(config), processor)
    known |= {f"{name}.weight": f"{name}.weight" for name in COMPUTED}
    strange = next((name for name in header.entries if name not in known), None)
    if strange is not None:
        raise Unsupported(
            f"`{shown(strange)}` is no tensor of `{config['model_type']}` in transformers",
            hint="save the model as safetensors, and use that",
        )
    found = {name: known[name] for name in header.entries}
    if len(set(found.values())) < len(found):
        raise Unsupported("two tensors are one in transformers", hint="save the model as safetensors, and use that")
    return found


def _placed(header: GgufHeader, known: names.Architecture, theirs: str, stored: Stored) -> Stored:
    """One tensor as the model has it."""
    kind, shape = header.entries[theirs].dtype, header.entries[theirs].shape
    arch = header.text("general.architecture")
    layer = theirs.rpartition(".")[0]
    turned = layer.rpartition(".")[2] in TURNED.get(arch, ()) and len(shape) == 2
    order = known.rows if rows.moved(known.rows, layer) else ""
    offset = -1.0 if arch in ADDED and theirs.endswith("norm.weight") else 0.0
    if kind in TORCH_NAMES and not (turned or order or offset):
        return stored
    shape, dtype = (shape[::-1] if turned else shape), (kind if kind in TORCH_NAMES else "F32")
    codec = Laid(scheme(kind), shape, dtype, kind, layer, order, _heads(header, arch), offset, turned)
    return Packed(stored.name, stored.shard, codec.entry, {"weight": stored}, codec, dtype)


def _heads(header: GgufHeader, arch: str) -> rows.Heads:
    queries = header.count(f"{arch}.attention.head_count")
    return rows.Heads(queries, header.count(f"{arch}.attention.head_count_kv") or queries)
