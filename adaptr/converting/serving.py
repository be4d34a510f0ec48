"""Write an adapter as the PEFT folder that a server loads, within what it accepts, or refuse with the reason.

What they accept is what their profiles say (`adaptr.serving`); no server was run. Different ranks and scales are folded
into the factors, and filled up with zeros, both exactly; so is a kind of layer that a server wants in each block. What
was made is judged by the same profile before it is written, so that nothing is written that would do less than it says.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr import foreign, precision
from adaptr.adapter import Adapter
from adaptr.converting import llama_cpp
from adaptr.converting.blocks import completed
from adaptr.converting.checking import BAD, needs
from adaptr.converting.drop import numbered
from adaptr.converting.plain import plain, require_servable
from adaptr.converting.served import Served, said, served_of
from adaptr.converting.served_names import named
from adaptr.errors import Unsupported, UsageError
from adaptr.files import require_folder
from adaptr.format import digest
from adaptr.format.finite import require_finite
from adaptr.results import about
from adaptr.serving.judge import judge
from adaptr.serving.profile import Profile, profile
from adaptr.serving.seen import Base, Seen
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    import torch
    from torch import nn


def serve(
    source: Given,
    out: str | os.PathLike[str],
    server: str,
    *,
    rank: int | None = None,
    force: bool = False,
    base: nn.Module | Place | None = None,
    dtype: str | torch.dtype | None = None,
    drop: str | Iterable[int] | None = None,
) -> Served:
    """Write the adapter at `source` as the folder `out` that `server` loads: `vllm`, or `vllm@0.28` for that version.
    For `llama-server` and `ollama` it has a GGUF file in it (`llama_cpp`), for all others it is PEFT's.

    `rank`: the highest that it takes; larger ones are cut to it. `base`: a folder or a live model, whose names the
    layers get. `dtype`: what it is stored in, None for the wider of fp32 and the source. `drop`: layers, such as
    "0-4", that are left out, as `adaptr.drop` does it. The error is that of what is stored.

    Raises `UsageError` for an unknown server or version or a rank that it can't be told, `Unsupported` for what no LoRA
    says, for what the server would alter, ignore or refuse, and, without a base, for names that are none of a model
    that is served, a `WrongBase` for those that the base does not have, `OutputExists`.
    """
    if llama_cpp.of(server) is not None:
        return llama_cpp.serve(source, out, server, rank=rank, force=force, base=base, dtype=dtype, drop=drop)
    what, stored_as, known = one(source), precision.called(dtype), profile(server)
    most = _highest(known, rank)
    require_folder(out := Path(out), force, reads(what, base))
    base = grounded(base)
    found, gone = open_adapter(what, base), None if drop is None else numbered(drop)
    require_finite(found.adapter, found.given)
    chosen = served_of(found.adapter, gone, base)
    require_servable(chosen, known.server)
    adapter, error = plain(chosen, most, precision.named(stored_as))
    adapter = named(adapter, known.server, base)
    adapter = completed(adapter, base, known)
    _require_taken(adapter, None if base is None else Base.of(base), known)
    lineage = {"operation": "convert", "arguments": said(server, rank, stored_as, gone), "parents": [of_opened(found)]}
    adapter = adapter.replace(lineage=lineage, **about.kept(found.adapter))
    written = foreign.get("peft").write(adapter, out, False, force)
    r = int(adapter.config["r"])
    counted = (found.adapter.method, r, len(adapter.targets), error)
    return Served(found.given, str(out), known.server, *counted, needs(known, r), digest.of_file(written.file))


def _highest(known: Profile, rank: int | None) -> int:
    """The highest rank to write, 0 for any."""
    limit = max(known.writing.ranks, default=0)
    if rank is not None and rank < 1:
        raise UsageError("the rank", got=rank, want="1 or more")
    if rank is not None and limit and rank > limit:
        raise UsageError(
            "the rank",
            got=rank,
            want=f"at most {limit}, as {known.tool} takes no higher",
            hint="make it smaller with `--rank`",
        )
    return rank or limit


def _require_taken(adapter: Adapter, served: Base | None, known: Profile) -> None:
    """Raises `Unsupported` where the server would alter, ignore or refuse a tensor of what is to be written."""
    from adaptr.foreign.peft.writing import config_of

    keys = {f"{path}:{end}": f"base_model.model.{path}.lora_{end}.weight" for path in adapter.targets for end in "AB"}
    shapes = {name: tuple(adapter.tensors[key].shape) for key, name in keys.items()}
    for found in judge(Seen(config_of(adapter), shapes), known, served):
        if found.verdict in BAD:
            raise Unsupported(
                f"`{adapter.label}` would be {found.verdict} by {known.called} at `{found.tensor}`: {found.says}",
                hint="leave that target out, or merge the adapter (`adaptr merge`)",
            )
