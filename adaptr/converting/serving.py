"""Write an adapter as the PEFT folder that a server loads, within what it accepts, or refuse with the reason.

What they accept is what their profiles say (`adaptr.serving`); no server was run. Different ranks and scales are folded
into the factors, and filled up with zeros, both exactly; so is a kind of layer that a server wants in each block. What
was made is judged by the same profile before it is written, so that nothing is written that would do less than it says.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import foreign, plugins, precision
from adaptr.adapter import Adapter, Target
from adaptr.algebra.lowrank import LowRank
from adaptr.changes.deltas import Deltas, deltas
from adaptr.changes.plan import members
from adaptr.contract.capabilities import LOW_RANK
from adaptr.converting.blocks import completed
from adaptr.converting.checking import BAD, needs
from adaptr.converting.convert import require_finite
from adaptr.converting.served_names import named
from adaptr.errors import NotPossible, Unsupported, UsageError
from adaptr.files import require_folder
from adaptr.format import digest
from adaptr.plugins import method
from adaptr.results import about, storing
from adaptr.serving.judge import judge
from adaptr.serving.profile import Profile, profile
from adaptr.serving.seen import Base, Seen
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Served:
    """What was written. `error`: relative, Frobenius, over all targets; 0 where nothing was cut. `flags`: what the
    server must be told.
    """

    source: str
    out: str
    server: str
    method: str
    rank: int
    targets: int
    error: float
    flags: str
    digest: str

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def serve(
    source: Given,
    out: str | os.PathLike[str],
    server: str,
    *,
    rank: int | None = None,
    force: bool = False,
    base: nn.Module | Place | None = None,
    dtype: str | torch.dtype | None = None,
) -> Served:
    """Write the adapter at `source` as the PEFT folder that `server` loads: `vllm`, or `vllm@0.28` for that version.

    `rank`: the highest that it takes; larger ones are cut to it. `base`: a folder or a live model, whose names the
    layers get. `dtype`: what it is stored in, None for the wider of fp32 and the source. The error is that of what is
    stored.

    Raises `UsageError` for an unknown server or version or a rank that it can't be told, `Unsupported` for what no LoRA
    says, for what the server would alter, ignore or refuse, and, without a base, for names that are none of a model
    that is served, a `WrongBase` for those that the base does not have, `OutputExists`.
    """
    what, stored_as, known = one(source), precision.called(dtype), profile(server)
    most = _highest(known, rank)
    require_folder(out := Path(out), force, reads(what, base))
    base = grounded(base)
    found = open_adapter(what, base)
    require_finite(found)
    _require_servable(found.adapter, known.server)
    adapter, error = _plain(found.adapter, most, precision.named(stored_as))
    adapter = named(adapter, known.server, base)
    adapter = completed(adapter, base, known)
    _require_taken(adapter, None if base is None else Base.of(base), known)
    said = {"for": server, "rank": rank, **({"dtype": stored_as} if stored_as else {})}
    lineage = {"operation": "convert", "arguments": said, "parents": [of_opened(found)]}
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


def _require_servable(adapter: Adapter, server: str) -> None:
    for _, part, _ in members(adapter):
        if not method(part.method).can.delta:
            raise Unsupported(
                f"`{server}` loads plain LoRA alone, and `{part.method}` of `{adapter.label}` is none",
                hint="where it has a weight, `adaptr convert --method lora --rank R --base BASE` "
                "first, which measures the error",
            )
        other = next((t for t in part.targets.values() if not t.is_linear), None)
        if other is not None:
            raise Unsupported(
                f"`{other.path}` is of kind `{other.kind}`, and `{server}` gets LoRA on linear layers alone",
                hint="leave that target out, or merge the adapter",
            )
    whole = [key[:-2] for key in adapter.tensors if key.endswith(":=")]
    if whole:
        raise Unsupported(
            f"`{adapter.label}` replaces `{whole[0]}` as a whole (`modules_to_save`), which `{server}` does not load",
            hint="`adaptr merge` writes a checkpoint with it",
        )


def _plain(adapter: Adapter, most: int, dtype: torch.dtype | None) -> tuple[Adapter, float]:
    """The same change as LoRA of one rank, scale 1, and the relative error."""
    changes = deltas(adapter)
    if changes.biases:
        path = next(iter(changes.biases))
        raise Unsupported(
            f"`{adapter.label}` changes the bias of `{path}`, which no server loads", hint="merge it (`adaptr merge`)"
        )
    pairs, error = _cut(changes, most, dtype)
    r = max(A.shape[0] for A, _ in pairs.values())
    config = {"r": r, "alpha": float(r)}
    targets: dict[str, Target] = {}
    tensors: dict[str, Tensor] = {}
    for path, (A, B) in pairs.items():
        from torch.nn.functional import pad

        fill = r - A.shape[0]
        targets[path] = dataclasses.replace(changes.targets[path], config=_config(config))
        tensors[f"{path}:A"], tensors[f"{path}:B"] = pad(A, (0, 0, 0, fill)), pad(B, (0, fill))
    return Adapter(
        plugins.default(LOW_RANK), _config(config), targets, tensors, base=adapter.base, name=adapter.name
    ), error


def _config(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(vars(method(plugins.default(LOW_RANK)).config(values)))


def _cut(changes: Deltas, most: int, dtype: torch.dtype | None) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
    """(A, B with the scale in it) of each target as they are stored, and the relative error of them all."""
    pairs, lost, total = {}, 0.0, 0.0
    for path in changes:
        op = changes[path]
        try:
            found = op.low_rank()
        except NotPossible:
            found = None
        if found is None and not most:
            raise Unsupported(f"the change of `{path}` has no low rank", hint="give --rank, and its error is measured")
        size = op.norm() ** 2
        total += size
        if found is None or (most and found.A.shape[0] > most):
            found, error = op.truncate(rank=most)
            lost += error * error * size
        B, A = found.factors(found.dtype)
        stored = {"A": A.contiguous(), "B": (B * found.scale).contiguous()}
        stored = {name: storing.cast(tensor, dtype, path) for name, tensor in stored.items()}
        lost += storing.lost(found, LowRank(stored["B"], stored["A"]), size)
        pairs[path] = stored["A"], stored["B"]
    return pairs, math.sqrt(lost / total) if total else 0.0
