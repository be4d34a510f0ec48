"""A tensor of a fine-tuned checkpoint beside that of its base, read once, block by block."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from adaptr.bulk.blocks import working
from adaptr.checkpoint.reading import every_row, reading
from adaptr.checkpoint.stored import Stored
from adaptr.format.io import raw_bytes
from adaptr.merging.verify import bits


@dataclass(frozen=True)
class Pair:
    """`digests`: sha256 of the bytes before ("" for none) and after. `same`: bit for bit, dtype included.

    `finite`: whether the difference is, in fp32 (fp64 for fp64), where it was wanted.
    """

    digests: tuple[str, str]
    same: bool
    finite: bool = True


def compared(before: Stored | None, after: Stored, subtract: bool) -> Pair:
    """Both read side by side. `subtract`: whether the difference is looked at; shapes must be the same then."""
    if before is None or before.entry.shape != after.entry.shape:
        return Pair(("" if before is None else _digest(before), _digest(after)), same=False)
    import torch

    with reading(before) as one, reading(after) as two:
        readers = [one(every_row(before)), two(every_row(after))]
        hashes = [hashlib.sha256() for _ in readers]
        alike = readers[0].dtype == readers[1].dtype
        same, work, finite = alike, working(readers[1].dtype), True
        for s in readers[1].blocks():
            old, new = (reader.read(s) for reader in readers)
            for digest, block in zip(hashes, (old, new), strict=True):
                digest.update(raw_bytes(block))
            if alike and torch.equal(bits(old), bits(new)):
                continue
            same = False
            if subtract:
                finite &= bool(torch.isfinite((new.to(work) - old.to(work)).sum(dtype=torch.float64)))
    return Pair((hashes[0].hexdigest(), hashes[1].hexdigest()), same, finite)


def _digest(stored: Stored) -> str:
    digest = hashlib.sha256()
    with reading(stored) as rows:
        reader = rows(every_row(stored))
        for s in reader.blocks():
            digest.update(raw_bytes(reader.read(s)))
    return digest.hexdigest()
