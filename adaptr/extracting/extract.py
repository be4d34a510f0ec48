"""An adapter from a fine-tuned checkpoint and the base it started from.

Both are streamed, block by block, a tensor in each thread. A large change is never held as a whole where few ranks
of it are wanted: it is read again for each product with it; where much of a spectrum is wanted it is there, in fp64.
Weights become low-rank deltas with the error measured; what is no weight (norms, biases, tables that grew) goes along
as the caller says, never silently.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Base, Target
from adaptr.algebra.lowrank import LowRank
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.converting.resize import require_size
from adaptr.errors import BadConfig, WrongBase, phrases
from adaptr.extracting.job import Biases, Choice, Embeddings, Extracted, Job, Rest
from adaptr.files.meter import Progress
from adaptr.format import digest
from adaptr.format.io import write
from adaptr.models.aligned import Aligned, aligned
from adaptr.models.belonging import public_name
from adaptr.models.content import content_in_files
from adaptr.models.layers import Layers, layers
from adaptr.models.ties import Ties
from adaptr.precision import called, named
from adaptr.report import Report
from adaptr.results import ranks, storing
from adaptr.results.assemble import assemble
from adaptr.results.ranks import Fitted
from adaptr.sources.open import placed, reads
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ExtractReport(Report):
    """What was extracted.

    `error`: ‖D - B A‖ / ‖D‖ over all targets together. `unchanged`: tensors equal bit for bit. `dropped`: tensors that
    changed and are not in the adapter, by the caller's choice. `reading`, `svd`: CPU seconds, summed over threads;
    `seconds` is by the clock.
    """

    base: str
    tuned: str
    out: str
    targets: int
    error: float
    worst: tuple[Fitted, ...]
    ranks: dict[int, int]
    biases: int
    replaced: tuple[str, ...]
    dropped: tuple[str, ...]
    unchanged: int
    numbers: int
    digest: str
    reading: float
    svd: float
    seconds: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def extract(
    base: Place,
    tuned: Place,
    out: str | os.PathLike[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
    embeddings: Embeddings = "low-rank",
    biases: Biases = "delta",
    rest: Rest = "replace",
    dtype: str | torch.dtype | None = None,
    base_name: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> ExtractReport:
    """Write to `out` the LoRA that turns `base` into `tuned` at `rank`, or at the ranks that keep a share `energy` of
    ‖D‖².

    `embeddings`: tables of the same size as low-rank deltas, as whole new tables, or not at all; tables that grew have
    no delta and are replaced unless dropped. `biases`: of layers that are targets, as differences or whole. `rest`:
    norms, other parameters and new ones. `dtype`: what deltas are stored in, None for the wider of fp32 and the
    checkpoints; the error is that of what is stored. `base_name`: what the base is called on a hub; where it came from
    one, that is known.

    Raises `WrongBase` for checkpoints of different models, `NothingChanged` if all tensors are equal, `NonFinite` for
    NaN and infinity, `BadConfig` for a rank above what any weight can have.
    """
    started = time.perf_counter()
    require_size(rank, energy, needed=True)
    stored_as = named(dtype)
    before, after = resolve(base), resolve(tuned)
    file = placed(out, force, reads(before, after))
    one = open_checkpoint(before.path)
    pair = aligned(one, open_checkpoint(after.path))
    _require_same_model(pair.base, pair.tuned)
    found_layers = _apart(layers(pair.base), pair)
    weights = found_layers.weights
    _require_possible(rank, weights)
    job = Job(pair, found_layers, rank, energy, Choice(embeddings, biases, rest), progress)
    found = job.run()
    known = _base(one, found_layers, found.operators, base_name)
    asked: dict[str, Any] = {"rank": rank, "energy": energy, "embeddings": embeddings, "biases": biases, "rest": rest}
    asked |= {"dtype": called(dtype)}
    adapter = assemble(
        found.operators,
        {target.path: target for target in _all(found_layers)},
        biases=found.biases,
        replaced=found.replaced,
        base=known,
        lineage={
            "operation": "extract",
            "arguments": {key: value for key, value in asked.items() if value is not None},
            "parents": [job.parent("base", 0), job.parent("tuned", 1)],
        },
        dtype=stored_as,
    )
    found.fitted[:] = [storing.measured(f, found.operators[f.path], adapter, stored_as) for f in found.fitted]
    write(adapter, file, force)
    return ExtractReport(
        base=before.given,
        tuned=after.given,
        out=str(file),
        targets=len(found.operators),
        error=ranks.total_error(found.fitted),
        worst=ranks.worst(found.fitted),
        ranks=ranks.ranks(found.fitted),
        biases=len(found.biases),
        replaced=tuple(sorted(found.replaced)),
        dropped=tuple(found.dropped),
        unchanged=job.unchanged,
        numbers=sum(t.numel() for t in adapter.tensors.values()),
        digest=digest.of_file(file),
        reading=job.reading,
        svd=job.svd,
        seconds=time.perf_counter() - started,
        notes=(*_notes(pair, found), *_nameless(known)),
    )


def _require_same_model(base: Checkpoint, tuned: Checkpoint) -> None:
    gone = sorted(set(base.tensors) - set(tuned.tensors))
    if gone:
        raise WrongBase(
            f"`{tuned.root}` lacks `{gone[0]}`, which `{base.root}` has ({len(gone)} of {len(base.tensors)} "
            "tensors are missing): it is no fine-tuning of this base, or it was saved under other names",
            hint="give the base that it was trained from",
        )
    for name, stored in base.tensors.items():
        want, got = stored.entry.shape, tuned.tensors[name].entry.shape
        # a vocabulary may grow or shrink, which is the first side of its tables
        if len(want) != len(got) or (want[1:] != got[1:] if len(want) > 1 else False):
            raise phrases.misshapen(
                f"`{name}` in `{tuned.root}`",
                got,
                want,
                WrongBase,
                by=f"as in `{base.root}`: these are different models",
                hint="give the base that it was trained from",
            )


def _require_possible(rank: int | None, weights: Mapping[str, Target]) -> None:
    most = max((min(_sides(target)) for target in weights.values()), default=0)
    if rank is not None and rank > most > 0:
        raise BadConfig("`rank`", got=rank, want=f"at most {most}, as no weight of this base can have more")


def _sides(target: Target) -> tuple[int, int]:
    shape = target.shape[1:] if target.stacked else target.shape
    width = 1
    for n in shape[1:]:
        width *= n
    return shape[0], width


def _all(found: Layers) -> list[Target]:
    return [*found.weights.values(), *(twin for twins in found.twins.values() for twin in twins)]


def _base(checkpoint: Checkpoint, found: Layers, operators: Mapping[str, LowRank], name: str) -> Base:
    """The base, told by samples of the weights that change, and by its public name if it has one."""
    chosen = {t.path: t for t in _all(found) if t.path in operators}
    content = content_in_files(Names(checkpoint), chosen)
    return dataclasses.replace(found.base, id=name or public_name(checkpoint.root), content=content)


def _nameless(base: Base) -> tuple[str, ...]:
    if base.id:
        return ()
    return ("the base has no public name here, so the adapter does not give one; say it with `--base-name`",)


def _apart(found: Layers, pair: Aligned) -> Layers:
    """Layers whose twins share a tensor on both sides: one that is stored on a side stands for itself."""
    names = Names(pair.base)
    twins = {name: tuple(t for t in made if _shares(names, name, t)) for name, made in found.twins.items()}
    return dataclasses.replace(found, twins={name: made for name, made in twins.items() if made})


def _shares(names: Names, name: str, twin: Target) -> bool:
    stored = names.find(f"{twin.path}.weight")
    return stored is None or stored.name == name


def _notes(pair: Aligned, found: Extracted) -> tuple[str, ...]:
    base, tuned = pair.base, pair.tuned
    notes = []
    if pair.ignored:
        notes.append(f"{len(pair.ignored)} tensors that the model does not read are left out: `{pair.ignored[0]}`")
    grown = [n for n, s in base.tensors.items() if s.entry.shape != tuned.tensors[n].entry.shape]
    if grown and found.replaced:
        notes.append("a table has another size than the base's: resize the model's embeddings before attaching")
    for tie in Ties(Names(base)).all:
        changed = [use for use in tie.uses if use in found.replaced or tie.uses[use].name in found.tables]
        whole = len(changed) == len(tie.uses) and not any(tie.uses[use].name in found.tables for use in changed)
        if changed and not whole:
            notes.append(
                f"`{changed[0]}` is tied; the adapter changes all its uses: merge with `--tied both`, or `--tied untie`"
                if found.twins
                else f"`{changed[0]}` is tied; attached, only that use changes: merge with `--tied both`"
            )
    return tuple(notes)
