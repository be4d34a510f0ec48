"""What a server would make of an adapter, as it is: each tensor applied, altered, ignored, refused, or unknown.

Of a PEFT folder the configuration and the header are read, nothing else. What is in another format is judged as
`convert --to peft` writes it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import foreign
from adaptr.converting.exporting import exported
from adaptr.errors import UsageError, phrases
from adaptr.format.io import public_part
from adaptr.report import Report
from adaptr.serving.judge import ALTERED, IGNORED, REFUSED, VERDICTS, Verdict, judge
from adaptr.serving.profile import Profile, profile
from adaptr.serving.seen import Base, Seen
from adaptr.sources.given import Given, What, one
from adaptr.sources.open import adaptr_file, open_adapter
from adaptr.sources.resolve import Place, Source, grounded

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter

PEFT = "peft"
#: What makes a check fail.
BAD = frozenset({ALTERED, IGNORED, REFUSED})


@dataclass(frozen=True)
class Checked(Report):
    """What a server makes of an adapter. `read`: when its profile was; `beyond`: whether the version is newer than all
    that was read. `written`: whether it was judged as PEFT would have it. `needs`: what the server must be told.
    """

    source: str
    server: str
    version: str
    read: str
    beyond: bool
    base: str
    written: bool
    needs: str
    notes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Verdict to the number of tensors, the worst first."""
        found = Counter(one.verdict for one in self.verdicts)
        return {name: found[name] for name in VERDICTS if found[name]}

    @property
    def ok(self) -> bool:
        """Whether nothing is known to be altered, ignored or refused."""
        return BAD.isdisjoint(self.counts)

    def as_dict(self) -> dict[str, Any]:
        named = {name: value for name, value in vars(self).items() if name != "verdicts"}
        return {**named, "ok": self.ok, "counts": self.counts, "tensors": [one.as_dict() for one in self.verdicts]}


def check(
    source: Given, on: str, base: nn.Module | Place | None = None, options: Mapping[str, Any] | None = None
) -> Checked:
    """What the server `on` (`vllm`, `vllm@0.28`) makes of the adapter at `source` with `base`, tensor by tensor.

    `base`: the folder that is served, or a live model; without it no layer's place is known. `options`: what the server
    is told, by its profile's names. Raises `UsageError` for an unknown server, version or option, and where PEFT can't
    hold the adapter what `convert` does.
    """
    known = profile(on)
    _require_known(known, options or {})
    what = one(source)
    base = grounded(base)
    seen, written = _seen(what, base)
    served = None if base is None else Base.of(base)
    return Checked(
        source=str(what.given if isinstance(what, Source) else what),
        server=known.server,
        version=known.called,
        read=known.read,
        beyond=known.beyond,
        base="" if served is None else served.architecture,
        written=written,
        needs=needs(known, max((one.rank for one in seen.stored()), default=0)),
        notes=known.notes,
        verdicts=tuple(judge(seen, known, served, options)),
    )


def needs(known: Profile, rank: int) -> str:
    """What a server must be told to take that rank; "" where it can't be told."""
    told = next((one for one in known.writing.ranks if one >= rank), None) if known.writing.ranks else rank
    return "" if told is None else known.writing.flags.format(rank=told)


def _require_known(known: Profile, options: Mapping[str, Any]) -> None:
    odd = next((name for name in options if name not in known.options), None)
    if odd is not None:
        raise phrases.unknown(UsageError, f"{known.tool} is told nothing called", odd, known.options, "known")


def _seen(what: What, base: nn.Module | Path | None) -> tuple[Seen, bool]:
    """The folder that a server is given, and whether it was made for this."""
    if isinstance(what, Source) and adaptr_file(what.path) is None:
        form = foreign.of(what.path)
        if form.name == PEFT:
            return Seen.at(form.weights(what.path)), False
    return _as_written(public_part(open_adapter(what, base).adapter), base), True


def _as_written(adapter: Adapter, base: nn.Module | Path | None) -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        return Seen.at(foreign.get(PEFT).write(exported(adapter, base), Path(folder) / PEFT).file)
