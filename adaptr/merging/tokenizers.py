"""The tokenizer that travels with an adapter: where the vocabulary grew, the merged model needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptr.adapter import Adapter
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.side_files import TOKENIZER
from adaptr.files.linked import require_inside
from adaptr.foreign.formats import files as weights_files
from adaptr.sources.open import NAME
from adaptr.untrusted import whole

Files = dict[str, bytes]


def carried(checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> tuple[Files, list[str]]:
    """(files of a tokenizer that are not as the base's, notes): those in the folder of an adapter.

    Of several adapters whose tokenizers differ, that of the one which replaces parameters goes; where that is not one,
    none does, and a note says so.
    """
    if checkpoint.root.is_file():  # nothing lies beside it; one of GGUF holds its own
        return {}, []
    found = [(adapter, files) for adapter in adapters if (files := _other(checkpoint, _beside(adapter)))]
    chosen = [(adapter, files) for adapter, files in found if adapter.replaced_paths] or found
    if not chosen:
        return {}, []
    labels = ", ".join(f"`{adapter.label}`" for adapter, _ in chosen)
    if any(files != chosen[0][1] for _, files in chosen):
        return {}, [f"{labels} come with tokenizers that differ; the base's is kept"]
    return chosen[0][1], [f"the tokenizer of {labels} is not the base's and goes along: {', '.join(chosen[0][1])}"]


def _beside(adapter: Adapter) -> Files:
    """The tokenizer in the folder of an adapter, if it is the adapter's. Raises `InputError` for links out of it."""
    place = Path(adapter.source)
    if not adapter.source or place.name not in {*weights_files(), NAME}:
        return {}
    files = [place.parent / name for name in sorted(TOKENIZER) if (place.parent / name).is_file()]
    require_inside(place.parent, files)
    return {file.name: whole(file) for file in files}


def _other(checkpoint: Checkpoint, files: Files) -> Files:
    """Those that the base lacks, or has otherwise."""
    root = checkpoint.root
    return {n: raw for n, raw in files.items() if not (root / n).is_file() or whole(root / n) != raw}
