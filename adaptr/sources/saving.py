"""Write an adapter as an adaptr file."""

from __future__ import annotations

import os
from pathlib import Path

from adaptr.expression import Expression
from adaptr.files import require_file
from adaptr.format import write
from adaptr.sources.given import Given, one, opened
from adaptr.sources.open import reads
from adaptr.sources.resolve import Source


def save(adapter: Given, path: str | os.PathLike[str], force: bool = False) -> None:
    """Write an adaptr file; of an expression such as `0.7 * a + 0.3 * b`, its `linear` composition. Raises
    `OutputExists` unless `force`, and for the file that the tensors are still read from.
    """
    what = one(adapter)
    parts = [part for part, _ in what.terms] if isinstance(what, Expression) else [what]
    lazy = (part for part in parts if isinstance(part, Source) or not isinstance(part.tensors, dict))
    require_file(Path(path), force, reads(*lazy))
    write(opened(what), path, force)
