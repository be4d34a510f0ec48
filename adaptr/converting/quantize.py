"""Adapters in fewer bits: in one scheme, or each target in the smallest that an error allows."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.converting.convert import placed_as
from adaptr.errors import BadConfig, UsageError
from adaptr.families import fidelity
from adaptr.families.budget import within
from adaptr.families.encoding import SCHEMES, scheme_of
from adaptr.families.quantized import require_some
from adaptr.format import digest
from adaptr.format.finite import require_finite
from adaptr.format.io import write
from adaptr.report import Report
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import Opened, open_adapter, reads

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter


@dataclass(frozen=True)
class Group:
    """Targets that are called alike but for numbers, `layers.*.q`, and stored alike.

    `scheme`: of their tensors with several axes, those of one target joined by `+`. `error`: the largest. Bytes are
    those of tensors.
    """

    targets: str
    count: int
    scheme: str
    error: float
    bytes_before: int
    bytes: int


@dataclass(frozen=True)
class QuantizeReport(Report):
    """What `quantize` did. `error`: what is declared, the largest of a target, relative, and `of` what it is (decision
    0016); `wanted`: the error that was allowed, None for none. Bytes are those of the files, 0 where there was none.
    """

    source: str
    out: str
    method: str
    scheme: str
    wanted: float | None
    error: float
    of: str
    groups: tuple[Group, ...]
    bytes_before: int
    bytes: int
    digest: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def quantize(
    adapter: Given, scheme: str | None = None, *, error: float | None = None, by_rank: bool = False
) -> Adapter:
    """The adapter stored in `scheme`: fp16, bf16, int8, fp8, nf4 or int4-g32; or each target in the smallest of them
    whose `error` is at most this, relative: 0.01 of the change that the target makes. `by_rank`: where that is a
    product of two factors, also with more bits for its larger singular directions, of which the factors are then made.

    What it cost is in its `quantization` (decision 0016). Raises `UsageError` for both or neither, `Unsupported` where
    the scheme makes nothing of it smaller, `NotPossible` where no scheme is within the error, `NonFinite`.
    """
    return _quantized(open_adapter(one(adapter)), scheme, error, by_rank)


def quantize_file(
    source: Given,
    out: str | os.PathLike[str],
    scheme: str | None = None,
    *,
    error: float | None = None,
    by_rank: bool = False,
    force: bool = False,
) -> QuantizeReport:
    """Write the adapter at `source` to `out` with its tensors packed, and say what it cost where.

    `scheme`: fp16, bf16, int8, fp8, nf4 or int4-g32; or each target in the smallest of them whose `error` is at most
    this, relative: 0.01 of the change that the target makes. `by_rank`: where that is a product of two factors, also
    with more bits for its larger singular directions. `force`: replace what is at `out`.

    Raises `UsageError` for both or neither, `Unsupported` where the scheme makes nothing of it smaller, `NotPossible`
    where no scheme is within the error, `NonFinite`, `OutputExists`.
    """
    started = time.perf_counter()
    what = one(source)
    place = placed_as(None, out, force, reads(what))
    found = open_adapter(what)
    made = _quantized(found, scheme, error, by_rank)
    said = {"scheme": scheme, "error": error, "by_rank": by_rank or None}
    asked = {name: value for name, value in said.items() if value is not None}
    lineage = {"operation": "quantize", "arguments": asked, "parents": [of_opened(found)]}
    file = write(made.replace(lineage=lineage), place, force)
    return QuantizeReport(
        source=found.given,
        out=str(file),
        method=made.method,
        scheme=made.quantization["scheme"],
        wanted=error,
        error=made.quantization["error"],
        of=made.quantization["of"],
        groups=tuple(_groups(found.adapter, made)),
        bytes_before=0 if found.file is None else found.file.stat().st_size,
        bytes=file.stat().st_size,
        digest=digest.of_file(file),
        seconds=time.perf_counter() - started,
    )


def _quantized(found: Opened, scheme: str | None, error: float | None, by_rank: bool) -> Adapter:
    if (scheme is None) == (error is None):
        raise UsageError(
            "one of a scheme and an error says how small",
            want=f"one of {', '.join(SCHEMES)}, or the error that is allowed",
            hint="give `--scheme nf4`, or `--error 1%` for the smallest scheme of each target within it",
        )
    if by_rank and error is None:
        raise UsageError("`by_rank` is a way to keep within an error", hint="say which: `--error 1%`")
    require_finite(found.adapter, found.given)
    if error is not None:
        if not 0 < error < 1:
            raise BadConfig("`error`", got=error, want="above 0 and below 1, such as 0.01 or 1%")
        return within(found.adapter.held(), error, by_rank)
    made: Adapter = plugins.hooks(found.adapter.method).quantize(adapter=found.adapter, scheme=scheme)
    require_some(made, str(scheme))
    return made


def _groups(before: Adapter, after: Adapter) -> Iterator[Group]:
    """The targets of an adapter or, by their names before them, of its parts."""
    parts = [(f"{name}: ", before.part(name), after.part(name)) for name in before.parts]
    for prefix, was, now in parts or [("", before, after)]:
        found: dict[tuple[str, str], list[Group]] = {}
        off = fidelity.errors(plugins.method(was.method), was, now)
        for path in was.targets:
            stored = now.stored(path)
            sizes = (_bytes(was.stored(path)), _bytes(stored))
            alike = Group(_pattern(path), 1, scheme_of(stored), off.get(path, 0.0), *sizes)
            found.setdefault((alike.targets, alike.scheme), []).append(alike)
        for (pattern, scheme), each in found.items():
            totals = (sum(one.bytes_before for one in each), sum(one.bytes for one in each))
            yield Group(prefix + pattern, len(each), scheme, max(one.error for one in each), *totals)


def _bytes(stored: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in stored.values())


def _pattern(path: str) -> str:
    return re.sub(r"\b\d+\b", "*", path) or "the model"
