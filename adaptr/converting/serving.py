"""Write an adapter as the PEFT folder that a server loads, within what it accepts, or refuse with the reason.

What they accept is what their sources say, which `docs/serving.md` names; no server was run. vLLM: plain LoRA of one
rank and one alpha, no DoRA, no `modules_to_save`, rank at most `--max-lora-rank`, one of 8, 16, 32, 64, 128, 256, 320,
512, by default 16; of `rank_pattern` and `alpha_pattern` it reads nothing. SGLang: the same, rank at most
`--max-lora-rank`. LoRAX: the same, any rank; and it leaves out, in silence, a kind of layer that the adapter does not
have in each block of the model. Different ranks and scales are folded into the factors, and filled up with zeros, both
exactly.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections import defaultdict
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
from adaptr.converting.convert import require_finite
from adaptr.converting.served_names import named
from adaptr.errors import NotPossible, Unsupported, UsageError, phrases
from adaptr.files import require_folder
from adaptr.format import digest
from adaptr.plugins import method
from adaptr.results import about, storing
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: The ranks that vLLM's `--max-lora-rank` can be.
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: Server to the highest rank that it can be told to take, 0 for any.
SERVERS = {"vllm": VLLM_RANKS[-1], "sglang": 0, "lorax": 0}


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
    """Write the adapter at `source` as the PEFT folder that `server` loads: vllm, sglang or lorax.

    `rank`: the highest that it takes; larger ones are cut to it. `base`: a folder or a live model, whose names the
    layers get. `dtype`: what it is stored in, None for the wider of fp32 and the source. The error is that of what is
    stored.

    Raises `UsageError` for an unknown server or a rank that it can't be told, `Unsupported` for what no LoRA says and,
    without a base, for names that are none of a model that is served, a `WrongBase` for those that the base does not
    have, `OutputExists`.
    """
    what, stored_as = one(source), precision.called(dtype)
    most = _highest(server, rank)
    require_folder(out := Path(out), force, reads(what, base))
    base = grounded(base)
    found = open_adapter(what, base)
    require_finite(found)
    _require_servable(found.adapter, server)
    adapter, error = _plain(found.adapter, most, precision.named(stored_as))
    adapter = named(adapter, server, base)
    if server == "lorax":
        _require_each_block(adapter)
    said = {"for": server, "rank": rank, **({"dtype": stored_as} if stored_as else {})}
    lineage = {"operation": "convert", "arguments": said, "parents": [of_opened(found)]}
    written = foreign.get("peft").write(
        adapter.replace(lineage=lineage, **about.kept(found.adapter)), out, False, force
    )
    r = int(adapter.config["r"])
    return Served(
        found.given, str(out), server, found.adapter.method, r, len(adapter.targets), error, _flags(server, r),
        digest.of_file(written.file),
    )  # fmt: skip


def _highest(server: str, rank: int | None) -> int:
    if server not in SERVERS:
        raise phrases.unknown(UsageError, "there is no server", server, SERVERS, "known")
    if rank is not None and rank < 1:
        raise UsageError("the rank", got=rank, want="1 or more")
    if server == "vllm" and rank is not None and rank > VLLM_RANKS[-1]:
        raise UsageError(
            "the rank",
            got=rank,
            want=f"at most {VLLM_RANKS[-1]}, as vLLM takes no higher",
            hint="make it smaller with `--rank`",
        )
    return rank or SERVERS[server]


def _flags(server: str, rank: int) -> str:
    if server == "vllm":
        return f"--enable-lora --max-lora-rank {next(r for r in VLLM_RANKS if r >= rank)}"
    return f"--enable-lora --max-lora-rank {rank}" if server == "sglang" else ""


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


def _require_each_block(adapter: Adapter) -> None:
    """Raises `Unsupported` where a kind of layer is adapted in some blocks of the model and not in others."""
    blocks: dict[str, set[int]] = defaultdict(set)
    for path in adapter.targets:
        number = re.search(r"(?<=\.)\d+(?=\.)", path)
        if number is not None:
            blocks[path[: number.start()] + "*" + path[number.end() :]].add(int(number[0]))
    count = max((max(numbers) + 1 for numbers in blocks.values()), default=0)
    for kind, numbers in blocks.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            raise Unsupported(
                f"`{adapter.label}` adapts `{kind}` in {len(numbers)} blocks and not in block {missing[0]}: "
                "LoRAX would leave that kind of layer out in all of them, without a word",
                hint="vLLM and SGLang load it",
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
