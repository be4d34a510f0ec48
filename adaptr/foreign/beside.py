"""Weights that lie beside an adapter's file and are none of its tensors: trained with it, and lost where it goes alone.

Trainers write them: projectors and embeddings of LLaVA's kin (`non_lora_trainables.bin`), value heads (TRL), new tokens
(`new_embeddings.safetensors`), a whole model or a second adapter. What a training needs to go on is no weight, and a
copy of the adapter in another container is nothing new.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import AdaptrError
from adaptr.foreign import seen, words
from adaptr.foreign.stored import contents
from adaptr.untrusted import opened

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".pkl", ".h5", ".msgpack"})
#: How files with weights in them begin; an LFS pointer stands for one that was not downloaded.
_STARTS = (b"PK\x03\x04", b"\x80", seen.LFS, b"\x89HDF")
#: What containers add to the bytes of their tensors, at most.
OVERHEAD = 1_000_000
#: Tensors that are called so are weights, though no module is named.
_TABLES = frozenset({"input_embeddings", "output_embeddings"})


#: The field of what a format keeps of an adapter (`foreign`) that names the files beside which it was read from too.
USED = "beside"


def unused(adapter: Adapter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of files beside an adapter's, those that nothing of it was read from."""
    kept = [one[USED] for one in adapter.foreign.values() if isinstance(one, dict) and isinstance(one.get(USED), list)]
    return tuple(name for name in names if not any(name in some for some in kept))


def weights(file: Path) -> tuple[str, ...]:
    """The names of the files beside `file`, in its folder, with weights that are none of its own."""
    near = (path for path in sorted(file.parent.iterdir()) if path != file and path.is_file())
    return tuple(path.name for path in near if _is_candidate(path) and _has_weights(path) and not _copies(path, file))


def said(file: Path, names: tuple[str, ...]) -> str:
    """What lies beside an adapter, in words."""
    return f"`{file.parent}` also holds weights that are no part of the adapter: {', '.join(f'`{n}`' for n in names)}"


def _is_candidate(path: Path) -> bool:
    return path.suffix in _SUFFIXES and seen.STATE.fullmatch(path.stem) is None and not seen.is_adaptr(path)


def _has_weights(path: Path) -> bool:
    """By its first bytes and the names in its header; what is broken or can't be looked into counts as weights."""
    with opened(path) as file:
        first = file.read(512)
    if first[8:9] == b"{":
        names = [key for key in seen.peeked(path) if key != "__metadata__"]
        return not names or any("." in name or name in _TABLES or words.is_word(name) for name in names)
    return first.startswith(_STARTS) or path.suffix in {".msgpack"}


def _copies(path: Path, file: Path) -> bool:
    """Whether two files hold the same tensors: trainers leave one in each container."""
    import torch

    sizes = [one.stat().st_size for one in (path, file)]
    if max(sizes) > 2 * min(sizes) + OVERHEAD:  # whole models are not read to be told from an adapter
        return False
    try:
        mine, theirs = contents(path)[0], contents(file)[0]
    except AdaptrError:
        return False
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
