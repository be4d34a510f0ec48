"""Virtual tokens baked once and written: keys and values as an adapter that computes nothing, on the same base."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.contract.capabilities import CACHE
from adaptr.converting.convert import placed_as
from adaptr.format import digest
from adaptr.format.finite import require_finite
from adaptr.format.io import write
from adaptr.models.belonging import require_named
from adaptr.models.load import model_at, quiet_transformers
from adaptr.report import Report
from adaptr.runtime.attaching import create
from adaptr.runtime.baking import bake
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter


@dataclass(frozen=True)
class BakeReport(Report):
    """What `bake_file` did. `tokens`: how many positions it takes before the text."""

    source: str
    base: str
    out: str
    method_before: str
    method: str
    tokens: int
    bytes: int
    digest: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bake_file(
    base: Place, source: Given, out: str | os.PathLike[str], *, force: bool = False, any_base: bool = False
) -> BakeReport:
    """Write to `out` what the prompt or prefix at `source` leaves in the cache of the model at `base`, as a prefix for
    it. `any_base`: go on although it says that it is of another base.

    It does what the source does on this base, and on no other: a prompt's keys and values are made of its weights.
    `adaptr.bake` of it is the cache at once. Raises as `bake` does.
    """
    started = time.perf_counter()
    root, what = resolve(base), one(source)
    out = placed_as(None, out, force, reads(what, root.path))
    found = open_adapter(what, root.path)
    require_finite(found.adapter, found.given)
    require_named(root.path, [found.adapter], any_base)
    model = model_at(root.path, quiet_transformers().AutoModelForCausalLM.from_pretrained).eval()
    made = held(model, found.adapter)
    made = made.replace(lineage={"operation": "bake", "arguments": {}, "parents": [of_opened(found)]})
    file = write(made, out, force)
    return BakeReport(
        source=found.given,
        base=root.given,
        out=str(out),
        method_before=found.adapter.method,
        method=made.method,
        tokens=made.config["tokens"],
        bytes=file.stat().st_size,
        digest=digest.of_file(file),
        seconds=time.perf_counter() - started,
    )


def held(model: nn.Module, adapter: Adapter) -> Adapter:
    """The virtual tokens of a prompt or prefix as keys and values for `model`. Raises as `bake` does."""
    baked, method = bake(model, adapter), plugins.default(CACHE)
    fresh = create(model, method, name=adapter.name)
    return plugins.method(method).holding(model, fresh, baked.filled)
